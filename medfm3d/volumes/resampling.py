"""Volumes on other grids, by SimpleITK or by torch (which also runs on a GPU)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from medfm3d.volumes.itk_files import from_itk, to_itk
from medfm3d.volumes.volume import Volume

Interpolation = Literal["linear", "nearest"]
Backend = Literal["sitk", "torch"]
_SLAB_VOXELS = 4_000_000  # output voxels computed at once by torch: bounds the memory for coordinates


def resample(
    volume: Volume,
    spacing_mm: float | Sequence[float],
    *,
    interpolation: Interpolation = "linear",
    backend: Backend = "sitk",
    device: str = "cpu",
) -> Volume:
    """Return the volume at another voxel size, over the same box: the faces of the outermost voxels stay in place.

    Args:
        volume: the volume.
        spacing_mm: new voxel size, one number or three; rounded so that whole voxels fill the box's axes, the rest
            is cut or added evenly at both ends.
        interpolation: "linear" (gives float32) or "nearest" (keeps the type; for label maps).
        backend: "sitk" or "torch".
        device: of the torch backend.

    Raises:
        ValueError: if the spacing is not positive, or an unknown interpolation or backend is named.
    """
    wanted = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), 3)
    if not (wanted > 0).all():
        raise ValueError(f"spacing_mm must be positive, got {spacing_mm}")
    old_spacing, old_shape = np.array(volume.spacing_mm), np.array(volume.shape)
    shape = np.maximum(1, np.round(old_shape * old_spacing / wanted)).astype(int)
    affine = volume.affine.copy()
    affine[:3, :3] *= wanted / old_spacing
    centre = volume.affine[:3, :3] @ ((old_shape - 1) / 2) + volume.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    array = _sampled(volume, tuple(shape), affine, interpolation, backend, device, outside=None)
    return Volume(array, affine, volume.source)


def resample_to(
    volume: Volume,
    reference: Volume,
    *,
    interpolation: Interpolation = "linear",
    backend: Backend = "sitk",
    outside: float = 0.0,
    device: str = "cpu",
) -> Volume:
    """Return the volume on exactly the reference's grid.

    Args:
        volume: the volume.
        reference: whose shape and affine the result gets.
        interpolation: as for `resample`.
        backend: as for `resample`.
        outside: value of voxels whose centres lie outside the volume's box.
        device: of the torch backend.

    Raises:
        ValueError: if an unknown interpolation or backend is named.
    """
    array = _sampled(volume, reference.shape, reference.affine, interpolation, backend, device, outside)
    return Volume(array, reference.affine.copy(), volume.source)


def _sampled(
    volume: Volume,
    shape: Sequence[int],
    affine: np.ndarray,
    interpolation: Interpolation,
    backend: Backend,
    device: str,
    outside: float | None,
) -> np.ndarray:
    """Values at the voxel centres of a grid; with `outside` None the edge is continued."""
    if interpolation not in ("linear", "nearest"):
        raise ValueError(f"unknown interpolation {interpolation!r}: choose linear or nearest")
    if backend == "sitk":
        return _by_sitk(volume, shape, affine, interpolation, outside)
    if backend == "torch":
        return _by_torch(volume, shape, affine, interpolation, outside, torch.device(device))
    raise ValueError(f"unknown backend {backend!r}: choose sitk or torch")


def _by_sitk(
    volume: Volume, shape: Sequence[int], affine: np.ndarray, interpolation: Interpolation, outside: float | None
) -> np.ndarray:
    linear = interpolation == "linear"
    image = to_itk(Volume(volume.array.astype(np.float32), volume.affine) if linear else volume)
    grid = to_itk(Volume(np.zeros((1, 1, 1), dtype=np.uint8), affine))
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(side) for side in shape])
    resampler.SetOutputSpacing(grid.GetSpacing())
    resampler.SetOutputOrigin(grid.GetOrigin())
    resampler.SetOutputDirection(grid.GetDirection())
    resampler.SetInterpolator(sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
    if outside is None:
        resampler.UseNearestNeighborExtrapolatorOn()
    else:
        resampler.SetDefaultPixelValue(float(outside))
    result = from_itk(resampler.Execute(image)).array
    return np.ascontiguousarray(result if linear else result.astype(volume.array.dtype))


def _by_torch(
    volume: Volume,
    shape: Sequence[int],
    affine: np.ndarray,
    interpolation: Interpolation,
    outside: float | None,
    device: torch.device,
) -> np.ndarray:
    to_voxel = torch.from_numpy(np.linalg.inv(volume.affine) @ affine).to(device)
    linear = interpolation == "linear"
    array = np.ascontiguousarray(volume.array, dtype=np.float32 if linear else None)
    source = torch.from_numpy(array).to(device)
    rows = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    slabs = [
        _slab(source, to_voxel, shape, range(start, min(start + rows, shape[0])), linear, outside)
        for start in range(0, shape[0], rows)
    ]
    return torch.cat(slabs).cpu().numpy()


def _slab(
    source: torch.Tensor,
    to_voxel: torch.Tensor,
    shape: Sequence[int],
    rows: range,
    linear: bool,
    outside: float | None,
) -> torch.Tensor:
    device = source.device
    axes = [torch.arange(rows.start, rows.stop), torch.arange(shape[1]), torch.arange(shape[2])]
    grid = torch.stack(torch.meshgrid(*(axis.to(device, torch.float64) for axis in axes), indexing="ij"), dim=-1)
    index = grid @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    sides = torch.tensor(source.shape, dtype=torch.float64, device=device)
    inside = ((index >= -0.5) & (index < sides - 0.5)).all(dim=-1)
    index = torch.minimum(index.clamp(min=0), sides - 1)
    if linear:
        # grid_sample wants x, y, z from -1 to 1, x along the last axis.
        unit = (2 * index / (sides - 1).clamp(min=1) - 1).flip(-1).to(source.dtype)
        values = F.grid_sample(source[None, None], unit[None], "bilinear", "border", align_corners=True)[0, 0]
    else:
        nearest = torch.floor(index + 0.5).long()  # half-way cases go up, as in ITK
        values = source[nearest[..., 0], nearest[..., 1], nearest[..., 2]]
    return values if outside is None else torch.where(inside, values, torch.as_tensor(outside, dtype=values.dtype))
