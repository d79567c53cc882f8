"""Which scans a path stands for."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from glob import has_magic
from pathlib import Path

from medfm3d.volumes import VolumeError, find_volumes, output_name
from medfm3d.volumes.paths import is_dicom_folder, volume_suffix


def list_inputs(path: str | Path, output: str | Path | None = None) -> list[Path]:
    """Return the scans that a path stands for, sorted, or in a manifest's order.

    A file stands for itself; a pattern such as `scans/*_CT.nii.gz` (with `**` for folders at any depth) for the volumes
    and DICOM series that it fits; a `dataset.json` in Decathlon layout for the images it names, test images where there
    are any. A folder in that layout stands for its images likewise, and one that is a DICOM series for that series. Any
    other folder stands for its volumes or, where it has none, for all that lie deeper, as in a tree of DICOM series.
    Folders in a tree may be links, which those that `**` stands for may not.

    Args:
        path: file, folder, pattern or manifest.
        output: folder of masks; what lies in it is no scan, should it be a folder within the path.

    Raises:
        VolumeError: if the path does not exist or holds no volume.
    """
    path = Path(path)
    found = _found(path)
    masks = None if output is None else Path(os.path.realpath(output))
    if masks is None or masks in _self_and_parents(path):
        return found
    return _some([scan for scan in found if masks not in _self_and_parents(scan.parent)], path)


def _self_and_parents(path: Path) -> list[Path]:
    resolved = Path(os.path.realpath(path))
    return [resolved, *resolved.parents]


def _found(path: Path) -> list[Path]:
    if has_magic(str(path)) and not path.exists():
        fitting = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        return _some([one for one in fitting if volume_suffix(one) or (one.is_dir() and is_dicom_folder(one))], path)
    if not path.exists():
        raise VolumeError(f"{path}: no such file or folder; name a volume, a folder of volumes or a pattern")
    if path.name == "dataset.json":
        return _some(_listed_images(path), path)
    if path.is_file():
        return [path]
    for images in ("imagesTs", "imagesTr"):
        found = find_volumes(path / images) if (path / images).is_dir() else []
        if found:
            return found
    return _some(find_volumes(path) or [found for folder in _deeper(path) for found in _own_volumes(folder)], path)


def _listed_images(manifest: Path) -> list[Path]:
    """Return the images that a Decathlon dataset.json names, those of its test cases where there are any."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        entries = content.get("test") or content["training"]
        return [manifest.parent / (entry if isinstance(entry, str) else entry["image"]) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VolumeError(f"{manifest}: is no Decathlon manifest with training or test images ({error!r})") from error


def _deeper(path: Path) -> list[Path]:
    """Return the folders in a folder at any depth, sorted, through links too; not what is hidden, and none twice."""
    seen, found = {os.path.realpath(path)}, []
    for above, names, _ in os.walk(path, followlinks=True):
        inner = {os.path.realpath(Path(above, name)): name for name in sorted(names, reverse=True) if name[0] != "."}
        names[:] = sorted(name for real, name in inner.items() if real not in seen)
        seen |= inner.keys()
        found += [Path(above, name) for name in names]
    return sorted(found)


def _own_volumes(folder: Path) -> list[Path]:
    """Return the volume files in a folder, or the folder itself if it is a DICOM series; not what lies deeper."""
    return [found for found in find_volumes(folder) if found == folder or not found.is_dir()]


def _some(found: list[Path], path: Path) -> list[Path]:
    if not found:
        raise VolumeError(f"{path}: holds no volume; supported are NIfTI, NRRD, MetaImage and DICOM series folders")
    return found


def check_names(scans: Sequence[Path]) -> None:
    """Raise VolumeError if two scans have the same name, so that one mask would replace the other."""
    for scan, other in of_taken_names(scans):
        raise VolumeError(f"{scan}: its mask would be that of {other} as well; give the scans distinct names")


def of_taken_names(scans: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each scan that has the name of an earlier one, and that one."""
    places: dict[str, Path] = {}
    for scan in scans:
        other = places.setdefault(output_name(scan), scan)
        if other is not scan:
            yield scan, other
