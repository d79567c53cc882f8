"""What a scan must be before anything is computed from it."""

from collections.abc import Sequence

import numpy as np

from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.volume import Volume

MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 50.0
MAX_EXTENT_MM = 3000.0  # a patient fits into three metres; a larger field of view has a wrong unit
MAX_COSINE = 2e-4  # between axes that should be orthogonal: what four decimals of their directions allow
LABEL_TOLERANCE = 0.05  # whole numbers that a NIfTI scale factor stores as 0.996, say
GRID_TOLERANCE = 1e-2  # in voxels, between the corners of an image and its label


def check_volume(volume: Volume) -> None:
    """Check array and geometry of a scan.

    Raises:
        VolumeError: if it is not a 3D array of real numbers with at least 2 voxels a side; if its spacing is zero or
            absurd, its directions are singular or sheared; if it holds NaN or Inf, or one value throughout.
    """
    _check_array(volume)
    _check_geometry(volume)
    low, high = volume.array.min(), volume.array.max()
    if low == high:
        raise _error(volume, f"all voxels are {low}", "export the scan again")


def check_label(volume: Volume, allowed_ids: Sequence[int] | None = None) -> None:
    """Check a label map: geometry as `check_volume`, and whole numbers from 0 to 65535.

    Args:
        volume: the label map.
        allowed_ids: ids that may occur beside 0; any if left out.

    Raises:
        VolumeError: if it breaks one of these.
    """
    _check_array(volume)
    _check_geometry(volume)
    ids = np.unique(volume.array).astype(np.float64)
    off = np.abs(ids - np.round(ids)) > LABEL_TOLERANCE
    if off.any():
        odd = [float(number) for number in ids[off][:3]]
        raise _error(volume, f"label values such as {odd} are not integers", "resample label maps by nearest neighbour")
    ids = np.round(ids)
    if ids[0] < 0 or ids[-1] > 65535:
        raise _error(volume, f"label values run from {ids[0]:g} to {ids[-1]:g}", "use ids from 1 to 65535, 0 outside")
    if allowed_ids is not None:
        unknown = [int(number) for number in ids if number != 0 and number not in set(allowed_ids)]
        if unknown:
            raise _error(
                volume,
                f"label values {unknown[:10]} are not among {sorted(allowed_ids)}",
                "name these organs or erase them",
            )


def check_same_grid(image: Volume, label: Volume, *, tolerance: float = GRID_TOLERANCE) -> None:
    """Check that two volumes lie on the same grid.

    Args:
        image: the scan.
        label: what was outlined on it.
        tolerance: voxels that a corner of one may lie from the other's.

    Raises:
        VolumeError: if shapes differ, or a corner lies further from the other's.
    """
    if image.shape != label.shape:
        raise _error(
            label,
            f"has {_times(label.shape)} voxels, its image {image.source or ''} has {_times(image.shape)}",
            "resample it onto the image's grid (medfm3d.volumes.resample_to)",
        )
    far = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]).T
    far[:3] *= np.array(image.shape)[:, None] - 1
    distance_mm = np.linalg.norm(((image.affine - label.affine) @ far)[:3], axis=0).max()
    if distance_mm > tolerance * min(image.spacing_mm):
        raise _error(
            label,
            f"lies up to {distance_mm:.3g} mm from its image {image.source or ''}",
            "resample it onto the image's grid, or copy the image's header if only the header is wrong",
        )


def _check_array(volume: Volume) -> None:
    array = volume.array
    if array.ndim != 3 or min(array.shape) < 2:
        raise _error(volume, f"has shape {_times(array.shape)}", "give one 3D volume with at least 2 voxels a side")
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating) or array.dtype == bool):
        raise _error(volume, f"holds {array.dtype} voxels", "give one real number per voxel")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise _error(volume, f"{count} voxels are NaN or infinite", "replace them by the value of air or background")


def _check_geometry(volume: Volume) -> None:
    affine = volume.affine
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.allclose(affine[3], (0, 0, 0, 1)):
        raise _error(volume, "its affine is not a finite 4 x 4 matrix with last row 0 0 0 1", "export the scan again")
    spacing = np.array(volume.spacing_mm)
    if (spacing == 0).any():
        raise _error(
            volume, f"spacing is {_times(spacing)} mm, a zero size", "write the true voxel size into its header"
        )
    if (spacing < MIN_SPACING_MM).any() or (spacing > MAX_SPACING_MM).any():
        raise _error(
            volume,
            f"spacing is {_times(spacing)} mm, outside {MIN_SPACING_MM} to {MAX_SPACING_MM:g} mm",
            "write the voxel size in millimetres into its header",
        )
    extent = spacing * volume.shape
    if (extent > MAX_EXTENT_MM).any():
        raise _error(volume, f"extends over {_times(extent)} mm", "write the voxel size in millimetres into its header")
    directions = affine[:3, :3] / spacing
    if abs(np.linalg.det(directions)) < 0.1:
        raise _error(volume, "its directions are singular: two axes are the same", "export the scan again")
    cosines = np.abs(directions.T @ directions - np.eye(3))
    if cosines.max() > MAX_COSINE:
        angle = np.degrees(np.arccos(cosines.max()))
        raise _error(
            volume,
            f"is sheared: two axes meet at {angle:.2f} instead of 90 degrees",
            "resample it onto an orthogonal grid (a tilted gantry: dcm2niix does so)",
        )


def _error(volume: Volume, fault: str, remedy: str) -> VolumeError:
    return VolumeError(f"{volume.source or 'volume'}: {fault}; {remedy}")


def _times(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
