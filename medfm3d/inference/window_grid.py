"""Where sliding windows lie in a volume, and when each part of it has been seen by all of them."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

Window = tuple[slice, slice, slice]
CellIndex = tuple[int, int, int]


@dataclass(frozen=True)
class Cell:
    """A box of the volume that no window's face cuts.

    Attributes:
        index: its place along the grid's slow, middle and fast axis.
        region: its voxels along the volume's axes.
        windows: how many windows overlap it.
    """

    index: CellIndex
    region: Window
    windows: int


@dataclass(frozen=True)
class WindowGrid:
    """Sliding windows as MONAI's `sliding_window_inference` places them, in an order that finishes parts early.

    Windows advance slowest along the longest axis and fastest along the shortest, so that what is begun and not yet
    finished stays small: what one layer of windows across the two shorter axes has in common with the next. The volume
    is cut into cells at the faces of windows. A cell is finished when its last window is done, never before one with a
    smaller index along any axis and no larger one along the others.

    Attributes:
        size: sides of the volume in voxels, each at least the window's.
        window: sides of the windows.
        overlap: share of a window, along each axis, that the next one covers again, 0 or more and below 1.
    """

    size: tuple[int, int, int]
    window: tuple[int, int, int]
    overlap: tuple[float, float, float]

    def __post_init__(self) -> None:
        if any(not 0 <= share < 1 for share in self.overlap):
            raise ValueError(f"overlap must be 0 or more and below 1, got {self.overlap}")
        if any(side < 1 or side > whole for side, whole in zip(self.window, self.size, strict=True)):
            raise ValueError(f"windows {self.window} do not fit into a volume of {self.size}: pad it")

    @cached_property
    def axes(self) -> tuple[int, int, int]:
        """The slow, middle and fast axis: the longest first; of equal ones the first first."""
        slow, middle, fast = sorted(range(3), key=lambda axis: (-self.size[axis], axis))
        return slow, middle, fast

    @cached_property
    def starts(self) -> tuple[list[int], list[int], list[int]]:
        """First voxels of windows along each axis of the volume."""
        first, second, third = map(_starts, self.size, self.window, self.overlap)
        return first, second, third

    def windows(self) -> Iterator[Window]:
        """Return the windows in the order in which they are to be run."""
        _, *across = self.axes
        for layers in self._layers:
            for middle, slow, fast in itertools.product(self.starts[across[0]], layers, self.starts[across[1]]):
                start = dict(zip(self.axes, (slow, middle, fast), strict=True))
                first, second, third = (slice(start[axis], start[axis] + self.window[axis]) for axis in range(3))
                yield first, second, third

    def __len__(self) -> int:
        return len(self.starts[0]) * len(self.starts[1]) * len(self.starts[2])

    @cached_property
    def cells(self) -> dict[CellIndex, Cell]:
        """All cells by their index, in rising order of it."""
        found = {}
        for numbered in itertools.product(*(enumerate(self._intervals[axis]) for axis in self.axes)):
            i, j, k = (number for number, _ in numbered)
            spans = dict(zip(self.axes, (interval for _, interval in numbered), strict=True))
            covering = math.prod(len(self._covering(axis, interval)) for axis, interval in spans.items())
            found[i, j, k] = Cell((i, j, k), (spans[0], spans[1], spans[2]), covering)
        return found

    def cells_of(self, window: Window) -> list[Cell]:
        """Return the cells that a window overlaps, in rising order of their index."""
        places = (self._within(axis, window[axis]) for axis in self.axes)
        return [self.cells[i, j, k] for i, j, k in itertools.product(*places)]

    @cached_property
    def _layers(self) -> list[list[int]]:
        """First voxels of windows along the slow axis, of layers that are visited together.

        The last layer ends with the volume and so may have more in common with the one before than others have. These
        two are visited side by side: otherwise all of that would wait at once.
        """
        starts = self.starts[self.axes[0]]
        steps = [high - low for low, high in itertools.pairwise(starts)]
        if steps and steps[-1] < _step(self.window[self.axes[0]], self.overlap[self.axes[0]]):
            return [*([start] for start in starts[:-2]), starts[-2:]]
        return [[start] for start in starts]

    @cached_property
    def _intervals(self) -> tuple[list[slice], ...]:
        """What the faces of windows cut each axis of the volume into."""
        cuts = []
        for starts, side in zip(self.starts, self.window, strict=True):
            faces = sorted({*starts, *(start + side for start in starts)})
            cuts.append([slice(low, high) for low, high in itertools.pairwise(faces)])
        return tuple(cuts)

    def _covering(self, axis: int, interval: slice) -> list[int]:
        side = self.window[axis]
        return [start for start in self.starts[axis] if start <= interval.start and interval.stop <= start + side]

    def _within(self, axis: int, span: slice) -> list[int]:
        return [
            number
            for number, interval in enumerate(self._intervals[axis])
            if span.start <= interval.start and interval.stop <= span.stop
        ]


def _starts(size: int, window: int, overlap: float) -> list[int]:
    """First voxels along one axis: even steps, and a last window that ends with the volume."""
    step = size if window == size else _step(window, overlap)
    steps = -(-(size - window) // step)
    return [min(number * step, size - window) for number in range(steps + 1)]


def _step(window: int, overlap: float) -> int:
    return max(1, int(window * (1 - overlap)))
