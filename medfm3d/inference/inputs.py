"""Which scans a path stands for."""

from collections.abc import Sequence
from pathlib import Path

from medfm3d.volumes import VolumeError, find_volumes, output_name


def list_inputs(path: str | Path) -> list[Path]:
    """Return the scans at a path: the file itself, or a folder's volumes, sorted.

    A folder in Decathlon layout (with `imagesTs` or `imagesTr`) stands for its images, test images where there are
    any; a folder that is one DICOM series stands for that series.

    Raises:
        VolumeError: if the path does not exist or holds no volume.
    """
    path = Path(path)
    if not path.exists():
        raise VolumeError(f"{path}: no such file or folder; name a volume or a folder of volumes")
    if path.is_file():
        return [path]
    for images in ("imagesTs", "imagesTr"):
        found = find_volumes(path / images) if (path / images).is_dir() else []
        if found:
            return found
    found = find_volumes(path)
    if not found:
        raise VolumeError(f"{path}: holds no volume; supported are NIfTI, NRRD, MetaImage and DICOM series folders")
    return found


def check_names(scans: Sequence[Path]) -> None:
    """Raise VolumeError if two scans have the same name, so that one mask would replace the other."""
    places: dict[str, Path] = {}
    for scan in scans:
        other = places.setdefault(output_name(scan), scan)
        if other is not scan:
            raise VolumeError(f"{scan}: its mask would be that of {other} as well; give the scans distinct names")
