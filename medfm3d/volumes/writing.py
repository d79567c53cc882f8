"""From a volume to a file, all of it or nothing."""

from pathlib import Path

from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.itk_files import write_itk
from medfm3d.volumes.nifti import write_nifti
from medfm3d.volumes.paths import NIFTI_SUFFIXES, VOLUME_SUFFIXES, volume_suffix
from medfm3d.volumes.volume import Volume
from medfm3d.volumes.whole_file import whole_file


def write_volume(volume: Volume, path: str | Path) -> Path:
    """Write a volume as NIfTI, NRRD or MetaImage, by the path's suffix; folders are made where needed.

    It is written to a temporary folder beside its place and then moved, so that no reader meets half a file.

    Raises:
        VolumeError: if the suffix is unknown.
    """
    path = Path(path)
    suffix = volume_suffix(path)
    if suffix is None:
        raise VolumeError(f"{path}: cannot be written by that name; supported are {', '.join(VOLUME_SUFFIXES)}")
    with whole_file(path) as whole:
        (write_nifti if suffix in NIFTI_SUFFIXES else write_itk)(volume, whole)
    return path
