"""Sampling a window, turned, scaled and bent, out of a volume by a single interpolation."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def window_places(
    window: Sequence[int], centre: np.ndarray, matrix: np.ndarray, displacements: np.ndarray | None = None
) -> Tensor:
    """Return where the voxels of a window lie in a volume.

    Args:
        window: sides (D, H, W) in voxels.
        centre: voxel coordinates of the window's middle in the volume, (3,).
        matrix: from offsets in the window to offsets in the volume, (3, 3).
        displacements: in the volume's voxels at control points spread over the window, (1, 3, d, h, w); they are
            interpolated between the points. None for none.

    Returns:
        Voxel coordinates, (D, H, W, 3) float32.
    """
    axes = [torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in window]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    places = grid @ torch.as_tensor(matrix.T, dtype=torch.float32) + torch.as_tensor(centre, dtype=torch.float32)
    if displacements is None:
        return places
    field = torch.as_tensor(displacements, dtype=torch.float32)
    return places + F.interpolate(field, tuple(window), mode="trilinear", align_corners=True)[0].movedim(0, -1)


def sample_at(volume: Tensor, places: Tensor, mode: str, padding: str) -> Tensor:
    """Sample a volume (C, I, J, K) at voxel coordinates (D, H, W, 3); returns (C, D, H, W) float32.

    Args:
        volume: any number type; only the part around the places is converted, since all of it takes long.
        places: as from `window_places`.
        mode: "bilinear" (that is, trilinear) or "nearest".
        padding: what lies outside: "border" for the nearest voxel, "zeros" for 0.
    """
    sides = torch.tensor(volume.shape[1:])
    axes = places.reshape(-1, 3).T.contiguous()  # extremes are found ten times as fast along the last axis
    low = torch.minimum(axes.amin(1).floor().long() - 1, sides - 2).clamp(min=0)
    high = torch.maximum(torch.minimum(axes.amax(1).ceil().long() + 2, sides), low + 2)
    part = volume[(slice(None), *(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)))].float()
    # grid_sample wants x, y, z from -1 to 1, x along the last axis.
    unit = 2 * (places - low) / (torch.tensor(part.shape[1:]) - 1).clamp(min=1) - 1
    return F.grid_sample(part[None], unit.flip(-1)[None], mode, padding, align_corners=True)[0]
