"""Prompts as channels beside the image: what a convolution can see."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

CHANNELS = ("foreground", "background", "box", "previous")
SPREAD_VOXELS = 1.5  # standard deviation of a point
REACH_VOXELS = 4  # beyond which a point is nothing


def point_map(points: np.ndarray | Sequence[Sequence[float]], window: Sequence[int]) -> Tensor:
    """Return a Gaussian ball of height 1 about each point, where balls meet the larger value.

    Args:
        points: (N, 3) voxel coordinates in the window, also between voxels; those outside leave no mark.
        window: sides (D, H, W) in voxels.

    Returns:
        (D, H, W) float32.
    """
    drawn = np.zeros(tuple(window), dtype=np.float32)
    for point in np.asarray(points, dtype=float).reshape(-1, 3):
        nearest = np.round(point).astype(int)
        low = np.maximum(nearest - REACH_VOXELS, 0)
        high = np.minimum(nearest + REACH_VOXELS + 1, window)
        if (low >= high).any():
            continue
        i, j, k = (
            (np.arange(a, b) - centre) ** 2 for a, b, centre in zip(low.tolist(), high.tolist(), point, strict=True)
        )
        distance = i[:, None, None] + j[:, None] + k
        part = drawn[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        np.maximum(part, np.exp(-distance / (2 * SPREAD_VOXELS**2)), out=part)
    return torch.from_numpy(drawn)


def box_map(boxes: np.ndarray | Sequence[Sequence[Sequence[float]]], window: Sequence[int]) -> Tensor:
    """Return 1 inside of each box and 0 elsewhere.

    Args:
        boxes: (N, 2, 3) voxel coordinates of the first and the last voxel's centre; a box on one slice has twice the
            same coordinate along the slice's axis.
        window: sides (D, H, W) in voxels.

    Returns:
        (D, H, W) float32.
    """
    drawn = torch.zeros(tuple(window))
    for low, high in np.asarray(boxes, dtype=float).reshape(-1, 2, 3):
        first = np.maximum(np.round(low).astype(int), 0)
        last = np.minimum(np.round(high).astype(int) + 1, window)
        drawn[tuple(slice(a, max(a, b)) for a, b in zip(first.tolist(), last.tolist(), strict=True))] = 1
    return drawn


def stacked_maps(
    foreground: np.ndarray, background: np.ndarray, boxes: np.ndarray, previous: Tensor | None, window: Sequence[int]
) -> Tensor:
    """Return the channels of `CHANNELS`, (4, D, H, W) float32.

    Scribbles are points like others, one for each of their voxels.

    Args:
        foreground: as of `point_map`.
        background: as of `point_map`.
        boxes: as of `box_map`.
        previous: probabilities of the last round, or a mask, (D, H, W); None for none. It becomes -1 to 1, so that 0
            says that there is none.
        window: sides (D, H, W) in voxels.
    """
    before = torch.zeros(tuple(window)) if previous is None else 2 * previous.float() - 1
    return torch.stack([point_map(foreground, window), point_map(background, window), box_map(boxes, window), before])
