"""The grid that results are written on, seen from the network's grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Region = tuple[slice, slice, slice]
# Largest share of a voxel that an axis may stray over its length: directions of four decimals, which `check_volume`
# lets pass, are off by up to a tenth over 512 voxels, and the network sees axes made orthogonal.
_ALIGNED = 0.25


@dataclass(frozen=True)
class OutputGrid:
    """A grid whose axes are those of the network's, in any order and direction and at any voxel size.

    Attributes:
        shape: its sides in voxels.
        axes: which axis of the network's grid each of its axes runs along.
        steps: network voxels between two of its voxels, negative for the other direction.
        offsets: network coordinate of its first voxel along each of its axes.
    """

    shape: tuple[int, int, int]
    axes: tuple[int, int, int]
    steps: tuple[float, float, float]
    offsets: tuple[float, float, float]

    @classmethod
    def same(cls, shape: Sequence[int]) -> "OutputGrid":
        """Return the network's own grid."""
        i, j, k = shape
        return cls((i, j, k), (0, 1, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))

    @classmethod
    def between(cls, network_affine: np.ndarray, affine: np.ndarray, shape: Sequence[int]) -> "OutputGrid":
        """Return the grid of a scan, (4, 4) affine and shape, seen from that of the network.

        Raises:
            ValueError: if the two are turned against each other, so that one is no resampling along axes of the other.
        """
        to_network = np.linalg.inv(np.asarray(network_affine, dtype=float)) @ np.asarray(affine, dtype=float)
        turn = to_network[:3, :3]
        axes = np.abs(turn).argmax(axis=0)
        main = turn[axes, range(3)]
        stray = turn.copy()
        stray[axes, range(3)] = 0
        if sorted(axes.tolist()) != [0, 1, 2] or np.any(np.abs(stray) * np.asarray(shape) > _ALIGNED):
            raise ValueError(
                "the scan's grid is turned against the network's, which orientation and spacing do not explain; invert "
                "the other transforms first, or keep results on the network's grid"
            )
        i, j, k = (int(side) for side in shape)
        first, second, third = (int(axis) for axis in axes)
        steps, offsets = main.tolist(), to_network[axes, 3].tolist()
        return cls((i, j, k), (first, second, third), tuple(steps), tuple(offsets))

    @property
    def is_network_grid(self) -> bool:
        """Whether it is the network's grid, voxel for voxel."""
        return (
            self.axes == (0, 1, 2) and np.allclose(self.steps, 1, atol=1e-6) and np.allclose(self.offsets, 0, atol=1e-4)
        )

    def coordinates(self, axis: int, side: int, cut: tuple[bool, bool] = (False, False)) -> np.ndarray:
        """Return where this grid's voxels lie along an axis of the network's, whose volume has `side` voxels there.

        Beyond the volume they are put on its outermost voxels, or given NaN where the volume is `cut` (at its low and
        high face) out of a larger one.
        """
        own = self.axes.index(axis)
        places = self.offsets[own] + self.steps[own] * np.arange(self.shape[own])
        # A coordinate that rounding has put beside a voxel's centre is that centre.
        nearest = np.round(places)
        places = np.where(np.abs(places - nearest) < 1e-6, nearest, places)
        behind = ((places < -0.5) & cut[0]) | ((places >= side - 0.5) & cut[1])
        return np.where(behind, np.nan, np.clip(places, 0, side - 1))


def interpolate_along(scores: Tensor, axis: int, places: np.ndarray) -> Tensor:
    """Sample (C, ...) scores linearly at coordinates along one spatial axis, from 0 to its side - 1."""
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, scores.shape[axis + 1] - 1)
    between = torch.as_tensor(places - low, dtype=scores.dtype, device=scores.device)
    lower = scores.index_select(axis + 1, torch.as_tensor(low, device=scores.device))
    if not between.any():
        return lower
    upper = scores.index_select(axis + 1, torch.as_tensor(high, device=scores.device))
    return torch.lerp(lower, upper, between.view([-1 if dim == axis + 1 else 1 for dim in range(4)]))
