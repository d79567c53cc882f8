"""NRRD and MetaImage, by SimpleITK, and the way between ITK's geometry and ours."""

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.stored_size import check_stored_size
from medfm3d.volumes.volume import Volume

# The spaces that say where left and right are (NRRD format, section 5.6); ITK brings them to LPS.
_ANATOMICAL_SPACES = {
    *("left-posterior-superior", "right-anterior-superior", "left-anterior-superior"),
    *("lps", "ras", "las"),
}
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_itk(path: Path) -> Volume:
    """Read an NRRD or MetaImage file.

    Raises:
        VolumeError: if the file is broken or truncated, is not 3D, holds several components, or is an NRRD that names
            no space.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_header(path, reader)
        image = reader.Execute()
    except RuntimeError as error:
        raise VolumeError(f"{path}: cannot be read ({_reason(error)}); copy or export it again") from error
    return from_itk(image, path)


def write_itk(volume: Volume, path: Path) -> None:
    """Write NRRD or MetaImage, compressed."""
    sitk.WriteImage(to_itk(volume), str(path), useCompression=True)


def from_itk(image: sitk.Image, source: Path | None = None) -> Volume:
    """Return a 3D ITK image, whose geometry is in LPS, as a volume; the voxels are copied."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).transpose()
    return Volume(array.astype(np.float32) if array.dtype == np.float64 else array, LPS_TO_RAS @ affine, source)


def to_itk(volume: Volume) -> sitk.Image:
    """Return a volume as an ITK image; the voxels are copied."""
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    array = array.astype(np.float32) if array.dtype == np.float16 else array
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()))
    affine = LPS_TO_RAS @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _check_header(path: Path, reader: sitk.ImageFileReader) -> None:
    if reader.GetDimension() != 3:
        raise VolumeError(
            f"{path}: has {reader.GetDimension()} dimensions; give a 3D file, one frame or one whole volume"
        )
    if reader.GetNumberOfComponents() != 1:
        count = reader.GetNumberOfComponents()
        raise VolumeError(f"{path}: holds {count} numbers per voxel (colours or frames); give a scan with one")
    space = reader.GetMetaData("NRRD_space").strip().lower() if reader.HasMetaDataKey("NRRD_space") else "no space"
    if path.suffix.lower() in (".nrrd", ".nhdr") and space not in _ANATOMICAL_SPACES:
        raise VolumeError(
            f"{path}: its header names {space}, so left and right are unknown; export it with the field "
            "'space: left-posterior-superior'"
        )
    with path.open("rb") as file:
        head = file.read(8192).decode("latin-1")
    if path.suffix.lower() in (".mha", ".mhd"):
        _check_meta_image_spacing(path, head.split("ElementDataFile")[0])
    voxels = _voxel_file(path, head)
    if voxels is not None:
        voxel_bytes = sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        packed = re.search(r"^(CompressedData *= *True|encoding: *(?!raw))", head, re.IGNORECASE | re.MULTILINE)
        check_stored_size(path, reader.GetSize(), voxel_bytes, voxels.stat().st_size, packed is not None)


def _voxel_file(path: Path, head: str) -> Path | None:
    """Return the file that holds the voxels, or None where they lie in several or in one that is not there."""
    if path.suffix.lower() in (".nrrd", ".mha"):
        return path
    named = re.search(r"^(?:ElementDataFile *=|data ?file:) *(.+?) *\r?$", head, re.IGNORECASE | re.MULTILINE)
    voxels = path.parent / named[1] if named else path
    return voxels if voxels.is_file() else None


def _check_meta_image_spacing(path: Path, head: str) -> None:
    # ITK takes the absolute value of a negative spacing and replaces a zero, so the text itself is read.
    if "ElementSpacing" not in head and "ElementSize" not in head:
        raise VolumeError(f"{path}: its header gives no voxel size; write it there, as ElementSpacing in mm")
    for line in head.splitlines():
        name, _, value = line.partition("=")
        if name.strip() in ("ElementSpacing", "ElementSize"):
            try:
                sizes = [float(number) for number in value.split()]
            except ValueError:
                sizes = []
            if not sizes or (name.strip() == "ElementSpacing" and not all(size > 0 for size in sizes)):
                raise VolumeError(f"{path}: spacing is {value.strip()!r}; write the true voxel size into its header")


def _reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "ITK gives no reason"
