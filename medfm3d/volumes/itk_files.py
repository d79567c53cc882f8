"""NRRD and MetaImage, by SimpleITK, and the way between ITK's geometry and ours."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.volume import Volume

# The spaces that say where left and right are (NRRD format, section 5.6); ITK brings them to LPS.
_ANATOMICAL_SPACES = {
    *("left-posterior-superior", "right-anterior-superior", "left-anterior-superior"),
    *("lps", "ras", "las"),
}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
    return Volume(array.astype(np.float32) if array.dtype == np.float64 else array, _LPS_TO_RAS @ affine, source)


def to_itk(volume: Volume) -> sitk.Image:
    """Return a volume as an ITK image; the voxels are copied."""
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    array = array.astype(np.float32) if array.dtype == np.float16 else array
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()))
    affine = _LPS_TO_RAS @ volume.affine
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
    if path.suffix.lower() in (".mha", ".mhd"):
        _check_meta_image_spacing(path)


def _check_meta_image_spacing(path: Path) -> None:
    # ITK takes the absolute value of a negative spacing and replaces a zero, so the text itself is read.
    with path.open("rb") as file:
        head = file.read(8192).split(b"ElementDataFile")[0].decode("latin-1")
    if "ElementSpacing" not in head and "ElementSize" not in head:
        raise VolumeError(f"{path}: its header gives no voxel size; write it there, as ElementSpacing in mm")
    for line in head.splitlines():
        name, _, value = line.partition("=")
        if name.strip() in ("ElementSpacing", "ElementSize"):
            sizes = [float(number) for number in value.split()]
            if name.strip() == "ElementSpacing" and not all(size > 0 for size in sizes):
                raise VolumeError(f"{path}: spacing is {sizes}; write the true voxel size into its header")


def _reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "ITK gives no reason"
