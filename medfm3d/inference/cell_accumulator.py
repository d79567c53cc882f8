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

    Memory is taken for a cell by its first window and given back when the cell is done; none is for a cell that only
    one window covers. A window covers a cell as a whole or not at all.

    Args:
        grid: the windows and cells of the volume.
        weight: importance of each voxel of a window, more than 0, sides as of the grid's window.
        dtype: in which scores are summed up.
        device: where.
        background: scores (C,) of voxels that only skipped windows cover.
        mean: divide sums by the windows' weights; False leaves out a pass over all scores where those of a voxel
            matter only in comparison.
    """

    def __init__(
        self,
        grid: WindowGrid,
        weight: Tensor,
        dtype: torch.dtype,
        device: torch.device,
        background: Tensor,
        mean: bool = True,
    ) -> None:
        self.grid = grid
        self.weight = weight.to(device=device, dtype=torch.float32)
        self.dtype = dtype
        self.device = device
        self.background = background.to(device)
        self.mean = mean
        self._begun: dict[CellIndex, tuple[Tensor, list[Window]]] = {}  # sums, and where the cell lay in each window
        self._waiting = {index: cell.windows for index, cell in grid.cells.items()}

    def add(self, window: Window, scores: Tensor) -> Iterator[tuple[Cell, Tensor]]:
        """Add a window's scores (C, d, h, w), and yield every cell that this finishes.

        Yields:
            The cell and its mean scores (C, ...), or their multiples, valid until the next one is asked for.
        """
        scores = scores.to(device=self.device)
        for cell in self.grid.cells_of(window):
            of_window = _within(cell.region, window)
            part, weight = scores[(slice(None), *of_window)], self.weight[of_window]
            if cell.windows == 1:
                yield cell, part
                continue
            if cell.index not in self._begun:
                sums = _empty(part.shape, self.dtype, self.device)
                self._begun[cell.index] = torch.mul(part, weight, out=sums), [of_window]
            else:
                sums, covered = self._begun[cell.index]
                covered.append(of_window)
                if self.dtype == torch.float32:
                    sums.addcmul_(part, weight)
                else:
                    sums += (part * weight).to(self.dtype)  # adding across types takes several times as long
            yield from self._count(cell)

    def skip(self, window: Window) -> Iterator[tuple[Cell, Tensor]]:
        """Leave a window out, and yield what this finishes."""
        for cell in self.grid.cells_of(window):
            yield from self._count(cell)

    def _count(self, cell: Cell) -> Iterator[tuple[Cell, Tensor]]:
        self._waiting[cell.index] -= 1
        if self._waiting[cell.index]:
            return
        if cell.index not in self._begun:
            sides = [span.stop - span.start for span in cell.region]
            yield cell, self.background.view(-1, 1, 1, 1).expand(-1, *sides)
            return
        sums, covered = self._begun.pop(cell.index)
        if self.mean:
            sums.div_(sum(self.weight[of_window] for of_window in covered))
        yield cell, sums


def _empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor to be filled, on the CPU in pages of its own.

    Cells come and go by the thousand, in any order. The heap of the C library keeps as holes what it gets back of
    them, a third of all memory in the end; pages go back to the system.
    """
    count = math.prod(shape)
    if device.type != "cpu" or count < MAPPED_VALUES:
        return torch.empty(*shape, dtype=dtype, device=device)
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype).view(*shape)


def _within(region: Window, window: Window) -> Window:
    """Return a cell's region in the coordinates of a window that covers it."""
    first, second, third = (
        slice(span.start - start.start, span.stop - start.start) for span, start in zip(region, window, strict=True)
    )
    return first, second, third
