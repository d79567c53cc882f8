"""The part of a scan that the network looks at, and the wider ones when that is not enough."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FIRST_SIDE = 64
LARGEST_WINDOW = 128  # voxels a side of what the network sees: wider regions are seen at lower resolution
GROWTH = 1.5


@dataclass(frozen=True)
class Region:
    """A box of a scan, and the window that the network sees of it.

    Attributes:
        start: first voxel of the box along each axis.
        extent: voxels of the box along each axis; it may go beyond the scan's end.
        window: voxels of the window along each axis.
        scan: voxels of the scan along each axis.
    """

    start: tuple[int, int, int]
    extent: tuple[int, int, int]
    window: tuple[int, int, int]
    scan: tuple[int, int, int]

    @property
    def inside(self) -> tuple[slice, slice, slice]:
        """The part of the scan in the box."""
        i, j, k = (slice(a, min(a + n, s)) for a, n, s in zip(self.start, self.extent, self.scan, strict=True))
        return i, j, k

    @property
    def is_whole(self) -> bool:
        """Whether all of the scan is in the box."""
        return all(part == slice(0, side) for part, side in zip(self.inside, self.scan, strict=True))

    def cut(self, volume: Tensor) -> Tensor:
        """Return the window, (1, C, *window), of a volume (C, I, J, K); beyond its end its last voxels go on."""
        part = volume[(slice(None), *self.inside)][None].float()
        missing = [n - side for n, side in zip(self.extent, part.shape[2:], strict=True)]
        for axis, count in enumerate(missing):  # one by one, since a scan may be thinner than what it lacks
            if count:
                last = part.narrow(axis + 2, part.shape[axis + 2] - 1, 1)
                part = torch.cat([part, last.expand([count if a == axis + 2 else -1 for a in range(5)])], dim=axis + 2)
        return part if self.extent == self.window else F.interpolate(part, self.window, mode="area")

    def to_window(self, points: np.ndarray) -> np.ndarray:
        """Return voxel coordinates of the scan, (..., 3), as coordinates in the window."""
        ratio = np.array(self.window) / np.array(self.extent)
        return (points - np.array(self.start) + 0.5) * ratio - 0.5

    def to_scan(self, window: Tensor) -> Tensor:
        """Return what a window (1, 1, *window) holds for the part of the scan in the box, (i, j, k)."""
        if self.extent != self.window:
            window = F.interpolate(window, self.extent, mode="trilinear")
        i, j, k = (part.stop - part.start for part in self.inside)
        return window[0, 0, :i, :j, :k]

    def holds(self, points: np.ndarray, margin: int) -> bool:
        """Whether points (N, 3) lie in the box, and so far from those of its faces that are not the scan's."""
        if not len(points):
            return True
        low, high = self._faces(margin)
        return bool(((points >= low) & (points <= high)).all())

    def is_left_by(self, mask: np.ndarray, voxels: int) -> bool:
        """Whether a mask on the scan's part, as from `to_scan`, has so many voxels at a face that is not the scan's."""
        for axis, (part, side) in enumerate(zip(self.inside, self.scan, strict=True)):
            first, last = (mask.take(place, axis=axis) for place in (0, -1))
            if (part.start > 0 and first.sum() > voxels) or (part.stop < side and last.sum() > voxels):
                return True
        return False

    def _faces(self, margin: int) -> tuple[np.ndarray, np.ndarray]:
        inner = [
            (part.start + margin if part.start > 0 else -0.5, part.stop - 1 - margin if part.stop < side else side)
            for part, side in zip(self.inside, self.scan, strict=True)
        ]
        return np.array([low for low, _ in inner]), np.array([high for _, high in inner])


def regions_around(anchor: Sequence[float], scan: Sequence[int], multiple: int) -> Iterator[Region]:
    """Yield ever wider regions about a point, the last of which is the whole scan.

    As the automatic zoom of nnInteractive (Isensee et al. 2025, section 3.3). They follow from the point alone, so that
    features of one serve all later prompts.

    Args:
        anchor: voxel coordinates of the point.
        scan: voxels of the scan along each axis.
        multiple: of which the window's sides must be multiples.
    """
    side = float(FIRST_SIDE)
    while True:
        region = _region(anchor, scan, round(side / multiple) * multiple, multiple)
        yield region
        if region.is_whole:
            return
        side *= GROWTH


def whole_region(scan: Sequence[int], multiple: int) -> Region:
    """Return the region that is the whole scan."""
    return _region([0, 0, 0], scan, math.ceil(max(scan) / multiple) * multiple, multiple)


def _region(anchor: Sequence[float], scan: Sequence[int], side: int, multiple: int) -> Region:
    extent = [min(side, math.ceil(length / multiple) * multiple) for length in scan]
    start = [
        min(max(0, round(place - length / 2)), max(0, whole - length))
        for place, length, whole in zip(anchor, extent, scan, strict=True)
    ]
    ratio = max(1.0, max(extent) / LARGEST_WINDOW)
    window = [max(multiple, round(length / ratio / multiple) * multiple) for length in extent]
    i, j, k = start
    return Region((i, j, k), tuple(extent), tuple(window), tuple(int(length) for length in scan))
