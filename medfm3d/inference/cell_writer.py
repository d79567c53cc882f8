"""Finished cells, reduced and written on the output's grid."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from medfm3d.inference.output_grid import OutputGrid, interpolate_along
from medfm3d.inference.score_reduction import ScoreReduction
from medfm3d.inference.window_grid import Cell, CellIndex, WindowGrid

CHUNK_VALUES = 1 << 22  # scores on the output's grid that are held at once: 16 MiB


class CellWriter:
    """Write cells on an output grid as they are finished, resampled where its voxels are not the network's.

    A voxel between the last plane of one cell and the first of the next belongs to the next; of a written cell only
    those planes are kept that later cells need for it. Cells must come in rising order along each axis, as
    `CellAccumulator` finishes them. Resampled scores are held for `CHUNK_VALUES` at once, however large a cell is and
    however fine the output.

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
        self.axes = grid.axes
        self.padding, self.size = padding, size
        self.output_grid = output_grid
        self.reduction = reduction
        self.output = output
        self._places = [output_grid.coordinates(axis, size[axis], cut[axis]) for axis in range(3)]
        self._in_place = output_grid.is_network_grid and output_grid.shape == size
        self._last_planes: dict[tuple[int, CellIndex], Tensor] = {}

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
        sizes = [len(places) for _, places in wanted]
        for part in _parts(sizes, CHUNK_VALUES // len(scores)):
            sampled = _sampled(block, [places[span] for (_, places), span in zip(wanted, part, strict=True)])
            reduced = self.reduction.reduce(sampled, resampled=True)
            spans = [
                slice(whole.start + span.start, whole.start + span.stop)
                for (whole, _), span in zip(wanted, part, strict=True)
            ]
            to = (slice(None), *(spans[axis] for axis in self.output_grid.axes))
            self.output[to] = reduced.permute(0, *(axis + 1 for axis in self.output_grid.axes)).to(self.output)

    def _with_neighbours(self, cell: Cell, scores: Tensor) -> tuple[Tensor, list[int]]:
        """Return the cell with the last planes of the cells in front of it, and its first voxel along each axis."""
        origin = [span.start for span in cell.region]
        # The plane that is kept along one axis reaches back along the axes before it, as the next cell's will by then.
        for order in (2, 1, 0):
            axis, before = self.axes[order], list(cell.index)
            before[order] -= 1
            # A copy: the cell's memory is used again for another.
            last = scores.narrow(axis + 1, scores.shape[axis + 1] - 1, 1).clone()
            if before[order] >= 0:
                scores = torch.cat((self._last_planes.pop((axis, (before[0], before[1], before[2]))), scores), axis + 1)
                origin[axis] -= 1
            self._last_planes[axis, cell.index] = last
        return scores, origin


def _parts(sizes: Sequence[int], voxels: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut a box of these sides into parts of at most so many voxels, or of one."""
    steps = list(sizes)
    while math.prod(steps) > max(1, voxels):
        longest = int(np.argmax(steps))
        steps[longest] = -(-steps[longest] // 2)
    ranges = (range(0, size, step) for size, step in zip(sizes, steps, strict=True))
    for starts in itertools.product(*ranges):
        i, j, k = (
            slice(start, min(start + step, size)) for start, step, size in zip(starts, steps, sizes, strict=True)
        )
        yield i, j, k


def _sampled(block: Tensor, places: Sequence[np.ndarray]) -> Tensor:
    """Interpolate scores (C, D, H, W) at coordinates along each axis."""
    needed = [slice(int(along.min()), int(along.max()) + 2) for along in places]
    part = block[(slice(None), *needed)]
    # Axes that get fewer voxels come first: nothing in between is larger than what it begins or ends with.
    for axis in sorted(range(3), key=lambda axis: len(places[axis]) / part.shape[axis + 1]):
        part = interpolate_along(part, axis, places[axis] - needed[axis].start)
    return part
