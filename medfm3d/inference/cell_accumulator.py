"""Weighted sums of overlapping windows, kept only for the parts of a volume that are not finished."""

import math
import mmap
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from medfm3d.inference.window_grid import Cell, CellIndex, Window, WindowGrid

MAPPED_VALUES = 1 << 14  # smaller tensors are left to the heap


class CellAccumulator:
    """Blend windows cell by cell and give each cell back when its last window is in.

    Memory is taken for a cell by its first window and given back when the cell is done.

    Args:
        grid: the windows and cells of the volume.
        weight: importance of each voxel of a window, sides as of the grid's window.
        dtype: in which scores are summed up.
        device: where.
        background: scores (C,) of voxels that only skipped windows cover.
    """

    def __init__(
        self, grid: WindowGrid, weight: Tensor, dtype: torch.dtype, device: torch.device, background: Tensor
    ) -> None:
        self.grid = grid
        self.weight = weight.to(device=device, dtype=torch.float32)
        self.dtype = dtype
        self.device = device
        self.background = background.to(device)
        self._skipped = False
        self._sums: dict[CellIndex, tuple[Tensor, Tensor]] = {}
        self._waiting = {index: cell.windows for index, cell in grid.cells.items()}

    def add(self, window: Window, scores: Tensor) -> Iterator[tuple[Cell, Tensor]]:
        """Add a window's scores (C, d, h, w), which are overwritten, and yield every cell that this finishes.

        Yields:
            The cell and its mean scores (C, ...), valid until the next one is asked for.
        """
        weighted = scores.to(device=self.device).mul_(self.weight)
        if weighted.dtype != self.dtype:
            weighted = weighted.to(self.dtype)  # adding across types takes several times as long
        cells = self.grid.cells_of(window)
        for cell in cells:
            sums, weights = self._sums_of(cell, scores.shape[0])
            into, of_window = _overlap(cell.region, window)
            sums[(slice(None), *into)] += weighted[(slice(None), *of_window)]
            weights[into] += self.weight[of_window]
        yield from self._count(cells)

    def skip(self, window: Window) -> Iterator[tuple[Cell, Tensor]]:
        """Leave a window out, and yield what this finishes."""
        self._skipped = True
        yield from self._count(self.grid.cells_of(window))

    def _count(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Tensor]]:
        for cell in cells:
            self._waiting[cell.index] -= 1
            if self._waiting[cell.index]:
                continue
            if cell.index not in self._sums:
                sides = [span.stop - span.start for span in cell.region]
                yield cell, self.background.view(-1, 1, 1, 1).expand(-1, *sides)
                continue
            sums, weights = self._sums.pop(cell.index)
            sums.div_(weights)
            if self._skipped and (unseen := weights == 0).any():
                sums[:, unseen] = self.background.to(sums)[:, None]
            yield cell, sums

    def _sums_of(self, cell: Cell, channels: int) -> tuple[Tensor, Tensor]:
        if cell.index not in self._sums:
            sides = [span.stop - span.start for span in cell.region]
            sums = _zeros((channels, *sides), self.dtype, self.device)
            self._sums[cell.index] = sums, _zeros(tuple(sides), torch.float32, self.device)
        return self._sums[cell.index]


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros, on the CPU in pages of their own.

    Cells come and go by the thousand, in any order. The heap of the C library keeps as holes what it gets back of
    them, a third of all memory in the end; pages go back to the system.
    """
    count = math.prod(shape)
    if device.type != "cpu" or count < MAPPED_VALUES:
        return torch.zeros(*shape, dtype=dtype, device=device)
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype).view(*shape)


def _overlap(region: Window, window: Window) -> tuple[Window, Window]:
    """Return what a region and a window have in common, in the region's and in the window's own coordinates."""
    common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(region, window, strict=True)]

    def within(box: Window) -> Window:
        first, second, third = (
            slice(low - span.start, high - span.start) for (low, high), span in zip(common, box, strict=True)
        )
        return first, second, third

    return within(region), within(window)
