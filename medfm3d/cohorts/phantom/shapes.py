"""Shapes as levels: functions of position, below 1 inside and growing outwards, so that a threshold sets the size."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Axes = tuple[Array, Array, Array]  # coordinates of a grid's planes along x, y and z, in mm
Points = tuple[Array, Array, Array]  # x, y and z of each voxel, in mm, each (I, J, K) or broadcast to it
Level = Callable[[Points], Array]

FIELD_EXTENT_MM = 170.0  # fields are defined for |x|, |y|, |z| up to here and constant beyond
_WHITE_NOISE_RMS = (151 / 315) ** 1.5  # of a cubic B-spline over coefficients of unit variance, in three dimensions


class SmoothField:
    """A random function of position: a cubic B-spline over a lattice of normal coefficients.

    It depends on millimetres and not on voxels, so that a patient is the same on a coarse and on a fine grid.

    Args:
        rng: draws the coefficients.
        lattice_mm: distance of the lattice's nodes, about the size of the field's features.
        rms: root mean square of the values.
    """

    def __init__(self, rng: np.random.Generator, lattice_mm: float, rms: float) -> None:
        self.lattice_mm = lattice_mm
        nodes = int(np.ceil(2 * FIELD_EXTENT_MM / lattice_mm)) + 3
        self.coefficients = rng.standard_normal((nodes, nodes, nodes), dtype=np.float32) * (rms / _WHITE_NOISE_RMS)

    def __call__(self, axes: Axes) -> Array:
        """Values on the grid of these planes, (I, J, K)."""
        values = self.coefficients
        for coordinates in axes:  # each turn consumes the first axis and appends the grid's
            values = np.tensordot(values, self._weights(coordinates), axes=(0, 1))
        return values.astype(np.float32, copy=False)

    def _weights(self, coordinates: Array) -> Array:
        inside = np.clip(coordinates, -FIELD_EXTENT_MM, FIELD_EXTENT_MM)
        nodes = np.arange(len(self.coefficients)) - 1
        distance = np.abs((inside[:, None] + FIELD_EXTENT_MM) / self.lattice_mm - nodes)
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = np.clip(2 - distance, 0, None) ** 3 / 6
        return np.where(distance < 1, near, far).astype(np.float32)


def ellipsoid(
    centre_mm: Sequence[float], semi_axes_mm: Sequence[float], rotation: NDArray[np.float64] | None = None
) -> Level:
    """Level of an ellipsoid: 1 on its surface, proportional to the distance from its centre.

    Args:
        centre_mm: its centre.
        semi_axes_mm: its three semi-axes.
        rotation: 3 x 3, from its own axes to those of the points.
    """
    turn = np.eye(3) if rotation is None else np.asarray(rotation)
    matrix = (turn.T / np.asarray(semi_axes_mm, dtype=np.float64)[:, None]).astype(np.float32)

    def level(points: Points) -> Array:
        x, y, z = (coordinate - np.float32(c) for coordinate, c in zip(points, centre_mm, strict=True))
        return np.sqrt(sum((row[0] * x + row[1] * y + row[2] * z) ** 2 for row in matrix))

    return level


def tube(path_mm: Sequence[Sequence[float]], radii_mm: Sequence[float]) -> Level:
    """Level of a tube along a line of straight pieces, its radius changing linearly in between."""
    path = np.asarray(path_mm, dtype=np.float32)
    radii = np.asarray(radii_mm, dtype=np.float32)

    def level(points: Points) -> Array:
        nearest = None
        for start, end, radius, next_radius in zip(path, path[1:], radii, radii[1:], strict=False):
            piece = end - start
            offset = [coordinate - c for coordinate, c in zip(points, start, strict=True)]
            along = sum(o * p for o, p in zip(offset, piece, strict=True)) / np.dot(piece, piece)
            along = np.clip(along, 0, 1)
            square = sum((o - along * p) ** 2 for o, p in zip(offset, piece, strict=True))
            here = np.sqrt(square) / (radius + along * (next_radius - radius))
            nearest = here if nearest is None else np.minimum(nearest, here)
        return nearest

    return level


def smooth_union(first: Level, second: Level, width: float = 0.35) -> Level:
    """Level of two shapes grown together: their minimum, with the crease rounded off over `width`."""

    def level(points: Points) -> Array:
        a, b = first(points), second(points)
        overlap = np.clip(width - np.abs(a - b), 0, None)
        return np.minimum(a, b) - overlap**2 / (4 * width)

    return level


def rotation_matrix(angles_rad: Sequence[float]) -> NDArray[np.float64]:
    """3 x 3 rotation about x, then y, then z."""
    (a, b, c), eye = angles_rad, np.eye(3)
    planes = ((1, 2, a), (2, 0, b), (0, 1, c))
    turn = eye
    for first, second, angle in planes:
        step = eye.copy()
        step[[first, second], [first, second]] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    return turn
