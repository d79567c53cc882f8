"""From a path to a checked volume."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medfm3d.volumes.check import check_label, check_volume
from medfm3d.volumes.dicom import read_dicom_series
from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.itk_files import read_itk
from medfm3d.volumes.nifti import read_nifti
from medfm3d.volumes.paths import DICOM_SUFFIXES, NIFTI_SUFFIXES, VOLUME_SUFFIXES, volume_suffix
from medfm3d.volumes.volume import Volume


def read_volume(path: str | Path, series_uid: str | None = None) -> Volume:
    """Read and check a scan: NIfTI, NRRD, MetaImage, or a folder that holds a DICOM series.

    Args:
        path: file or folder.
        series_uid: which DICOM series to read where the folder holds several.

    Returns:
        The scan, (I, J, K), with the stored numbers (rescaled as the file says; float64 becomes float32).

    Raises:
        VolumeError: if the file is unusable: see `check_volume` and the readers of each format.
    """
    volume = _read(Path(path), series_uid)
    check_volume(volume)
    return volume


def read_label(path: str | Path, allowed_ids: Sequence[int] | None = None) -> Volume:
    """Read and check a label map, as the smallest unsigned integers that hold its ids.

    Args:
        path: file or folder, as for `read_volume`.
        allowed_ids: ids that may occur beside 0; any if left out.

    Raises:
        VolumeError: if the file is unusable: see `check_label`.
    """
    volume = _read(Path(path), None)
    check_label(volume, allowed_ids)
    array = np.rint(volume.array) if np.issubdtype(volume.array.dtype, np.floating) else volume.array
    kind = np.uint8 if array.max() <= np.iinfo(np.uint8).max else np.uint16
    return Volume(array.astype(kind), volume.affine, volume.source)


def _read(path: Path, series_uid: str | None) -> Volume:
    if not path.exists():
        raise VolumeError(f"{path}: no such file; check the path")
    if path.is_dir():
        return read_dicom_series(path, series_uid)
    suffix = volume_suffix(path)
    if suffix is None and path.suffix.lower() in DICOM_SUFFIXES:
        raise VolumeError(
            f"{path}: is a single DICOM file; a scan is a folder of slices, and outlines (SEG, RTSTRUCT) are read with "
            "theirs, so bring them to NIfTI first: medfm3d convert --mask FILE --series FOLDER --output NAME.nii.gz"
        )
    if suffix is None:
        raise VolumeError(
            f"{path}: is not a volume by its name; supported are {', '.join(VOLUME_SUFFIXES)}, and a DICOM series as "
            "the folder of its slices"
        )
    if path.stat().st_size == 0:
        raise VolumeError(f"{path}: is empty (0 bytes); copy or export it again")
    return read_nifti(path) if suffix in NIFTI_SUFFIXES else read_itk(path)
