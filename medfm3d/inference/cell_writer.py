"""Finished cells, reduced and written on the output's grid."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medfm3d.inference.output_grid import OutputGrid, interpolate_along
from medfm3d.inference.score_reduction import ScoreReduction
from medfm3d.inference.window_grid import Cell, CellIndex, WindowGrid

CHUNK_VALUES = 1 << 24  # scores on the output's grid that are held at once


class CellWriter:
    """Write cells on an output grid as they are finished, resampled where its voxels are not the network's.

    A voxel between the last plane of one cell and the first of the next belongs to the next; of a written cell only
    those planes are kept that later cells need for it. Cells must come in rising order along each axis, as
    `CellAccumulator` finishes them.

    Args:
        grid: the cells.
        padding: voxels in front of the volume along each axis that were added to fit a window.
        size: sides of the volume without padding.
        output_grid: the grid to write on.
        reduction: what is kept of scores.
        output: where it is written, (channels, *output_grid.shape).
        cut: of the low and high face along each axis, whether the volume is a box cut there out of a larger one: then
            nothing is written outside of it, where otherwise the outermost voxels are continued.
    """

    def __init__(
        self,
        grid: WindowGrid,
        padding: tuple[int, int, int],
        size: tuple[int, int, int],
        output_grid: OutputGrid,
        reduction: ScoreReduction,
        output: Tensor,
        cut: Sequence[tuple[bool, bool]] = ((False, False),) * 3,
    ) -> None:
        self.slow, self.middle, self.fast = grid.axes
        self.padding, self.size = padding, size
        self.output_grid = output_grid
        self.reduction = reduction
        self.output = output
        self._places = [output_grid.coordinates(axis, size[axis], cut[axis]) for axis in range(3)]
        self._in_place = output_grid.is_network_grid and output_grid.shape == size
        self._last_planes: dict[CellIndex, Tensor] = {}
        self._last_columns: dict[CellIndex, Tensor] = {}

    def write(self, cell: Cell, scores: Tensor) -> None:
        """Write what a cell's mean scores (C, ...) say."""
        if self._in_place:
            self._write_as_it_is(cell, scores)
        else:
            self._write_resampled(cell, scores)

    def _write_as_it_is(self, cell: Cell, scores: Tensor) -> None:
        inside, to = [slice(None)], [slice(None)]
        for span, before, side in zip(cell.region, self.padding, self.size, strict=True):
            low, high = max(span.start, before), min(span.stop, before + side)
            if low >= high:
                return
            inside.append(slice(low - span.start, high - span.start))
            to.append(slice(low - before, high - before))
        self.output[tuple(to)] = self.reduction.reduce(scores[tuple(inside)], resampled=False).to(self.output)

    def _write_resampled(self, cell: Cell, scores: Tensor) -> None:
        block, origin = self._with_neighbours(cell, self.reduction.before_resampling(scores).float())
        wanted: list[tuple[slice, np.ndarray]] = []
        for axis, span in enumerate(cell.region):
            places = self._places[axis] + self.padding[axis]
            first = span.start - 1 if origin[axis] < span.start else -np.inf
            owned = np.flatnonzero((places > first) & (places <= span.stop - 1))
            if not len(owned):
                return
            wanted.append((slice(int(owned[0]), int(owned[-1]) + 1), places[owned] - origin[axis]))
        for axis in (self.middle, self.fast):
            block = interpolate_along(block, axis, wanted[axis][1])
        rows, places = wanted[self.slow]
        plane_values = block.numel() // block.shape[self.slow + 1]
        step = max(1, CHUNK_VALUES // plane_values)
        for start in range(0, len(places), step):
            part = places[start : start + step]
            reduced = self.reduction.reduce(interpolate_along(block, self.slow, part), resampled=True)
            spans = [span for span, _ in wanted]
            spans[self.slow] = slice(rows.start + start, rows.start + start + len(part))
            to = (slice(None), *(spans[axis] for axis in self.output_grid.axes))
            self.output[to] = reduced.permute(0, *(axis + 1 for axis in self.output_grid.axes)).to(self.output)

    def _with_neighbours(self, cell: Cell, scores: Tensor) -> tuple[Tensor, list[int]]:
        """Return the cell with the last planes of the cells in front of it, and its first voxel along each axis."""
        origin = [span.start for span in cell.region]
        i, j = cell.index
        if j > 0:
            scores = torch.cat((self._last_columns.pop((i, j - 1)), scores), dim=self.middle + 1)
            origin[self.middle] -= 1
        own_rows = scores
        if i > 0:
            scores = torch.cat((self._last_planes.pop((i - 1, j)), scores), dim=self.slow + 1)
            origin[self.slow] -= 1
        # Copies: the cell's memory is used again for another.
        self._last_columns[i, j] = own_rows.narrow(self.middle + 1, own_rows.shape[self.middle + 1] - 1, 1).clone()
        self._last_planes[i, j] = scores.narrow(self.slow + 1, scores.shape[self.slow + 1] - 1, 1).clone()
        return scores, origin
