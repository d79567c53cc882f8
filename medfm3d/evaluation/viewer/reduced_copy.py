"""Smaller copies of a scan and its mask, for pages that must stay small and browsers that cannot hold more."""

import numpy as np
from scipy.ndimage import gaussian_filter

from medfm3d.volumes import Volume, resample

ANTIALIAS = 0.4  # standard deviation over the new voxel size: dampens what the coarser grid cannot show


def reduced_copy(scan: Volume, mask: Volume | None, largest_voxels: int) -> tuple[Volume, Volume | None]:
    """Return scan and mask with at most about `largest_voxels` voxels, as they are if they have no more.

    Voxels become as near to cubes as that allows: the finest axes are coarsened first. The scan is smoothed and
    interpolated (float32), the mask takes the nearest voxel, so that a thin organ may lose or gain some.
    """
    if scan.array.size <= largest_voxels:
        return scan, mask
    old_mm, sizes_mm = np.array(scan.spacing_mm), np.array(scan.shape) * scan.spacing_mm
    finest_mm = old_mm.min()
    while np.prod(np.maximum(1, np.round(sizes_mm / np.maximum(old_mm, finest_mm)))) > largest_voxels:
        finest_mm *= 1.02
    new_mm = np.maximum(old_mm, finest_mm)
    sigma = np.where(new_mm > old_mm, ANTIALIAS * new_mm / old_mm, 0)
    smooth = gaussian_filter(scan.array.astype(np.float32), sigma, mode="nearest", truncate=3)
    small = resample(Volume(smooth, scan.affine, scan.source), new_mm)
    return small, None if mask is None else resample(mask, new_mm, interpolation="nearest")


def cropped(volume: Volume, box: tuple[slice, ...]) -> Volume:
    """Return what lies in a box of voxel indices, at its place."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return Volume(volume.array[box], affine, volume.source)
