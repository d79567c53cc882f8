"""Boxes of whole voxels in which a scan is searched."""

from collections.abc import Sequence

import numpy as np

SearchRegion = tuple[slice, slice, slice]


def whole(sides: Sequence[int]) -> SearchRegion:
    """Return all voxels of a scan (D, H, W)."""
    i, j, k = (slice(0, int(side)) for side in sides)
    return i, j, k


def joined(boxes: Sequence[SearchRegion]) -> SearchRegion:
    """Return the box around boxes, of which there must be one at least."""
    i, j, k = (
        slice(min(span.start for span in spans), max(span.stop for span in spans)) for spans in zip(*boxes, strict=True)
    )
    return i, j, k


def grown(region: SearchRegion, outwards: np.ndarray | int, sides: Sequence[int]) -> SearchRegion:
    """Return a box with its faces moved outwards by (3 axes, low and high) voxels, no further than the scan goes."""
    i, j, k = (
        slice(max(0, span.start - int(low)), min(int(side), span.stop + int(high)))
        for span, (low, high), side in zip(region, np.broadcast_to(outwards, (3, 2)), sides, strict=True)
    )
    return i, j, k


def at_least(region: SearchRegion, window: Sequence[int], sides: Sequence[int]) -> SearchRegion:
    """Return a box widened evenly to the sides of a window, where the scan is that large."""
    widened = []
    for span, least, side in zip(region, window, sides, strict=True):
        length = max(span.stop - span.start, min(int(least), int(side)))
        start = min(max(0, span.start - (length - (span.stop - span.start) + 1) // 2), int(side) - length)
        widened.append(slice(start, start + length))
    i, j, k = widened
    return i, j, k
