"""A slice of a mask as closed polygons, and back."""

from collections.abc import Sequence

import numpy as np
from skimage.measure import find_contours, grid_points_in_poly

# Polygons run this far, in voxels, from the centres of the outermost voxels. Under a half, so that readers that round
# corners to whole voxels (rt-utils, by OpenCV) find the mask as well as those that ask which centres lie within.
REACH = 0.48
_CHANNEL = 0.01  # voxels beside a column's centres: over none of them, and its ends still round to the mask's voxels
_ON_EDGE = 1e-3  # voxels; coordinates come back from millimetres rounded


def slice_polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outline of a mask as polygons, one for each piece; pieces that meet at a corner are apart.

    A hole is joined to what surrounds it by a channel of no width, so that its piece remains one polygon (keyhole
    technique, DICOM PS3.3, C.8.8.6.3). The centres of exactly the mask's voxels lie within the polygons, whether these
    are united or counted by the even-odd rule.

    Args:
        mask: bool, (rows, columns).

    Returns:
        Corners of each polygon, (N, 2), as row and column in voxels; the last one is joined to the first.
    """
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    rings = [ring[:-1] for ring in find_contours(padded.astype(np.float64), 1 - REACH, fully_connected="low")]
    return [_without_straight_corners(ring) - 1 for ring in _join_holes(padded, rings)]


def fill_polygons(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of voxels whose centres lie within an odd number of polygons, or on the edge of one.

    Centres on an edge count because many programs draw contours through the outermost voxels' centres.

    Args:
        polygons: corners, (N, 2), as row and column in voxels.
        shape: rows and columns.
    """
    inside, edges = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for polygon in polygons:
        corners = np.round(polygon / _ON_EDGE) * _ON_EDGE
        low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, shape)
        if (high <= low).any():
            continue
        # 0 outside, 1 inside, 2 a corner, 3 an edge
        where = grid_points_in_poly(tuple(high - low), corners - low, binarize=False)
        box = tuple(slice(start, end) for start, end in zip(low, high, strict=True))
        inside[box] ^= where == 1
        edges[box] |= where > 1
    return inside | edges


def _join_holes(mask: np.ndarray, rings: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Join the ring around each hole to the ring that its column meets next, upwards."""
    joined = dict(enumerate(rings))
    owner = {}  # ring to the one that holds it
    crossings = {_key(corner): number for number, ring in joined.items() for corner in ring}
    tops = {number: ring[ring[:, 0].argmin()] for number, ring in joined.items()}  # in the middle of a column
    holes = [number for number, (row, column) in tops.items() if not mask[int(row) + 1, int(column)]]
    for hole in sorted(holes, key=lambda number: tops[number][0]):  # what a channel meets is joined before
        row, column = tops[hole]
        above = int(np.flatnonzero(~mask[: int(row) + 1, int(column)])[-1])
        meets = np.array([above + 1 - REACH, column])
        target = crossings[_key(meets)]
        while target in owner:
            target = owner[target]
        joined[target] = _splice(joined[target], meets, joined.pop(hole), tops[hole])
        owner[hole] = target
    return list(joined.values())


def _key(corner: np.ndarray) -> tuple[int, int]:
    row, column = np.round(corner * 100).astype(int)
    return int(row), int(column)


def _splice(outer: np.ndarray, meets: np.ndarray, hole: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Return one ring out of two, joined by a channel beside the column of a corner of each."""
    start, outer = _opened(outer, meets)
    end, hole = _opened(hole, top)
    return np.concatenate([[start], outer, [start, end], hole, [end]])


def _opened(ring: np.ndarray, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the point on a ring a little right of a corner, and the ring from behind that point around to it."""
    at = int(np.abs(ring - corner).sum(axis=1).argmin())
    ring = np.roll(ring, -at, axis=0)
    ahead = ring[1][1] > corner[1]
    right = ring[1] if ahead else ring[-1]
    point = corner + (right - corner) * _CHANNEL / (right[1] - corner[1])
    point[1] = corner[1] + _CHANNEL
    return point, np.roll(ring, -1, axis=0) if ahead else ring


def _without_straight_corners(ring: np.ndarray) -> np.ndarray:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    straight = (np.abs(cross) < 1e-9) & ((before * after).sum(axis=1) > 0)
    return ring[~straight]
