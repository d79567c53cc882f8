"""NIfTI 1 and 2, by nibabel."""

import gzip
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from medfm3d.volumes.errors import VolumeError, VolumeWarning
from medfm3d.volumes.volume import Volume

_BROKEN = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    OSError,
    EOFError,
    zlib.error,
    ValueError,
)
_SFORM_AGREES = 1e-2  # relative difference of voxel sizes between pixdim and sform


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file; its sform counts before its qform, as in nibabel.

    Raises:
        VolumeError: if the file is broken or truncated, holds several frames or colours, has no orientation, or its
            header gives two voxel sizes.
    """
    try:
        image = nib.load(path)
    except _BROKEN as error:
        raise VolumeError(f"{path}: is not a readable NIfTI file ({error}); copy or export it again") from error
    if not isinstance(image, nib.Nifti1Image):  # Analyze and others that share the suffix
        raise VolumeError(f"{path}: is {type(image).__name__}, not NIfTI; convert it to NIfTI")
    header = image.header
    if header.get_data_dtype().names:
        raise VolumeError(f"{path}: holds colours (RGB); give a scan with one number per voxel")
    shape = image.shape
    if len(shape) > 3 and any(size != 1 for size in shape[3:]):
        raise VolumeError(f"{path}: has {len(shape)} dimensions {shape}; save one of its frames as a 3D file")
    if len(shape) < 3:
        raise VolumeError(f"{path}: has {len(shape)} dimensions {shape}; give one 3D volume")
    _check_header(path, image)
    try:
        array = np.asanyarray(image.dataobj)
    except _BROKEN as error:
        raise VolumeError(f"{path}: ends too early or is damaged ({error}); copy or export it again") from error
    array = array.reshape(shape[:3]) if len(shape) > 3 else array
    if array.dtype == np.float64 or array.dtype.byteorder not in "=|":
        array = array.astype(np.float32 if array.dtype == np.float64 else array.dtype.newbyteorder("="))
    return Volume(array, image.affine, path)


def write_nifti(volume: Volume, path: Path) -> None:
    """Write NIfTI 1, or 2 where a side exceeds what NIfTI 1 can hold; sform and qform both give the affine."""
    kind = nib.Nifti2Image if max(volume.shape) > np.iinfo(np.int16).max else nib.Nifti1Image
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = kind(array, volume.affine, dtype=array.dtype)
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def _check_header(path: Path, image: nib.Nifti1Image) -> None:
    header = image.header
    raw = _raw_pixdim(path, header)
    if not np.isfinite(raw).all() or (raw <= 0).any():
        raise VolumeError(f"{path}: voxel size (pixdim) is {raw.tolist()}; write the true voxel size into its header")
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if not sform and not qform:
        raise VolumeError(
            f"{path}: neither sform nor qform is set, so left and right are unknown; write the orientation into its "
            "header, from the original scan"
        )
    affine = image.affine
    if sform and np.isfinite(affine).all():
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        if (sizes > 0).all() and (np.abs(sizes / raw - 1) > _SFORM_AGREES).any():
            raise VolumeError(
                f"{path}: its header gives two voxel sizes, {raw.tolist()} mm (pixdim) and {sizes.tolist()} mm "
                "(sform), and programs differ in which they read; write the true one into both"
            )
    if sform and qform and np.isfinite(affine).all():
        corner = np.array([*np.array(image.shape[:3]) - 1, 1])
        try:
            qform_affine = header.get_qform()
        except ValueError as error:
            warnings.warn(f"{path}: its qform is invalid ({error}); sform is used", VolumeWarning, stacklevel=4)
            return
        apart_mm = float(np.linalg.norm((qform_affine - affine) @ corner))
        if apart_mm > raw.min():
            warnings.warn(
                f"{path}: sform and qform differ by {apart_mm:.3g} mm at the far corner; sform is used",
                VolumeWarning,
                stacklevel=4,
            )


def _raw_pixdim(path: Path, header: nib.Nifti1Header) -> np.ndarray:
    """Voxel sizes as they stand in the file: nibabel mends zero and negative ones while it loads."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        return type(header).from_fileobj(file, check=False)["pixdim"][1:4].astype(np.float64)
