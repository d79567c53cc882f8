"""NIfTI 1 and 2, by nibabel."""

import gzip
import warnings
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder

from medfm3d.volumes.errors import VolumeError, VolumeWarning
from medfm3d.volumes.stored_size import check_stored_size
from medfm3d.volumes.volume import Volume

_SFORM_AGREES = 1e-2  # relative difference of voxel sizes between pixdim and sform
_HEADER_BYTES = 540  # of NIfTI-2, the longer of the two
_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_UNITS = {1: "metres", 3: "micrometres"}  # xyzt_units, bits 0 to 2 (nifti1.h)


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file; its sform counts before its qform, as in nibabel.

    The file is read once, from its beginning to its end, so that the checksum of a compressed one is verified and a
    header that declares less than there is does not go unseen.

    Raises:
        VolumeError: if the file is broken, truncated or longer than its header says, holds several frames or colours,
            has no orientation, is not in millimetres, or its header gives two voxel sizes.
    """
    packed = path.name.lower().endswith(".gz")
    _check_packing(path, packed)
    with gzip.open(path) if packed else path.open("rb") as stream:
        image = _read_header(path, stream)
        _check_kind(path, image)
        _check_header(path, image)
        array = _read_voxels(path, image, stream)
    array = array.reshape(image.shape[:3])
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
            array = array.astype(np.float32)
    return Volume(array.astype(array.dtype.newbyteorder("="), copy=False), image.affine, path)


def write_nifti(volume: Volume, path: Path) -> None:
    """Write NIfTI 1, or 2 where a side exceeds what NIfTI 1 can hold; sform and qform both give the affine."""
    kind = nib.Nifti2Image if max(volume.shape) > np.iinfo(np.int16).max else nib.Nifti1Image
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = kind(array, volume.affine, dtype=array.dtype)
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def _check_packing(path: Path, packed: bool) -> None:
    """Check that a file can be opened, and is compressed just if its name says so."""
    try:
        with path.open("rb") as file:
            begins_packed = file.read(2) == _GZIP_MAGIC
    except OSError as error:
        raise VolumeError(f"{path}: cannot be opened ({error.strerror}); check its permissions and disk") from error
    if packed != begins_packed:
        what = "is gzip-compressed in spite of" if begins_packed else "is not gzip-compressed in spite of"
        raise VolumeError(f"{path}: {what} its name; rename it, or copy it again")


def _read_header(path: Path, stream: BinaryIO) -> nib.Nifti1Image:
    # nibabel raises many kinds of errors for headers that make no sense, and none of them is ours to mend.
    try:
        head = stream.read(_HEADER_BYTES)
        kinds = (nib.Nifti2Image, nib.Nifti1Image)
        kind = next((kind for kind in kinds if kind.header_class.may_contain_header(head)), None)
        if kind is None:
            raise VolumeError(f"{path}: is not a NIfTI file, its magic number is wrong; copy or export it again")
        _check_voxel_size(path, kind.header_class(head[: kind.header_class.sizeof_hdr], check=False))
        return kind.from_file_map({"image": FileHolder(fileobj=stream)}, mmap=False)
    except VolumeError:
        raise
    except Exception as error:
        raise VolumeError(f"{path}: is not a readable NIfTI file ({error}); copy or export it again") from error


def _check_kind(path: Path, image: nib.Nifti1Image) -> None:
    header, shape = image.header, image.shape
    if header.get_data_dtype().names:
        raise VolumeError(f"{path}: holds colours (RGB); give a scan with one number per voxel")
    if len(shape) > 3 and any(size != 1 for size in shape[3:]):
        raise VolumeError(f"{path}: has {len(shape)} dimensions {shape}; save one of its frames as a 3D file")
    if len(shape) < 3:
        raise VolumeError(f"{path}: has {len(shape)} dimensions {shape}; give one 3D volume")
    unit = int(header["xyzt_units"]) & 7
    if unit in _OTHER_UNITS:
        raise VolumeError(f"{path}: its header gives sizes in {_OTHER_UNITS[unit]}; bring them and the header to mm")


def _read_voxels(path: Path, image: nib.Nifti1Image, stream: BinaryIO) -> np.ndarray:
    voxel_bytes = image.header.get_data_dtype().itemsize
    check_stored_size(path, image.shape, voxel_bytes, path.stat().st_size, path.name.lower().endswith(".gz"))
    try:
        array = np.asanyarray(image.dataobj)
        one_slice = image.shape[0] * image.shape[1] * voxel_bytes
        rest = len(stream.read(one_slice))  # the end of a compressed file holds its checksum
    except MemoryError as error:
        sides = " x ".join(str(side) for side in image.shape)
        raise VolumeError(f"{path}: no memory for its {sides} voxels; use a machine with more") from error
    except Exception as error:
        raise VolumeError(f"{path}: ends too early or is damaged ({error}); copy or export it again") from error
    if rest == one_slice > 0:
        raise VolumeError(
            f"{path}: goes on behind the {' x '.join(str(side) for side in image.shape)} voxels of "
            f"{image.header.get_data_dtype()} that its header declares; mend the header, or export it again"
        )
    return array


def _check_voxel_size(path: Path, header: nib.Nifti1Header) -> None:
    """Look at voxel sizes as they stand in the file: nibabel mends zero and negative ones while it loads."""
    raw = header["pixdim"][1:4].astype(np.float64)
    if not np.isfinite(raw).all() or (raw <= 0).any():
        raise VolumeError(f"{path}: voxel size (pixdim) is {raw.tolist()}; write the true voxel size into its header")


def _check_header(path: Path, image: nib.Nifti1Image) -> None:
    header = image.header
    raw = header["pixdim"][1:4].astype(np.float64)
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
