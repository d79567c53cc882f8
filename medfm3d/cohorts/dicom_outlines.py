"""Outlines in DICOM SEG and RTSTRUCT files, matched with the series that they were drawn on."""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pydicom import dcmread

from medfm3d.cohorts.cohort import Case, Cohort, some
from medfm3d.cohorts.errors import CohortError
from medfm3d.volumes import VolumeError, find_volumes, output_name, write_volume
from medfm3d.volumes.dicom_labels import labelled_series_uid, read_dicom_labels
from medfm3d.volumes.paths import dicom_labels_suffix, is_dicom_file, is_no_scan


def holds_dicom_outlines(labels: str | Path) -> bool:
    """Return whether a folder holds DICOM SEG or RTSTRUCT files, at any depth, and no label map as a file."""
    labels = Path(labels)
    if not labels.is_dir() or any(path.is_file() for path in find_volumes(labels)):
        return False
    return next(_outlines(labels), None) is not None


def cohort_from_dicom_outlines(
    images: str | Path,
    labels: str | Path,
    organs: Mapping[str, int],
    converted: str | Path,
    *,
    names: Collection[str] | None = None,
) -> Cohort:
    """Return a cohort of DICOM series, of which those that an outline refers to are labelled.

    Files are matched by the series' identifier that they hold, whatever their names. A series is named as its folder.
    Where names are given, outlines of other series are passed over, whatever they hold, as in an archive of many.

    Args:
        images: folder of series, at any depth; other files may lie there.
        labels: folder of DICOM SEG and RTSTRUCT files, at any depth; it may be that of the images.
        organs: label value of each organ, by its name in the files.
        converted: folder that label maps are written to, one for each outlined series, as NIfTI.
        names: series whose outlines are read; all if left out.

    Raises:
        CohortError: if there is no series, an outline refers to none of them, or two refer to the same.
        VolumeError: if an outline cannot be read, or lacks one of the organs or any voxel of it.
    """
    images, labels, converted = Path(images), Path(labels), Path(converted)
    series: dict[str, Path] = {}
    for uid, folder in _series(images):
        if series.setdefault(uid, folder) != folder:
            raise CohortError(f"{folder}: holds the same series as {series[uid]}: keep one of them")
    if not series:
        raise CohortError(f"{images}: holds no DICOM series: give the folder of the series that were outlined")
    files: dict[str, Path] = {}
    for file, uid in _outlines(labels):
        if names is not None and (uid not in series or output_name(series[uid]) not in names):
            continue
        if uid not in series:
            raise CohortError(
                f"{file}: outlines the series {uid or 'that it does not name'}, which is not in {images}: add that "
                "series, or take the file away"
            )
        if uid in files:
            raise CohortError(f"{file}: outlines the series {series[uid]}, as {files[uid]} does: keep one of them")
        files[uid] = file
    cases = []
    for uid, folder in series.items():
        label = None
        if uid in files:
            label_map = read_dicom_labels(files[uid], folder).label_map(organs)
            if empty := [name for name, value in organs.items() if not (label_map.array == value).any()]:
                raise VolumeError(
                    f"{files[uid]}: its outline of {some(empty)} holds no voxel of {folder}, and a support scan must "
                    "show every organ; leave the scan out (--cases)"
                )
            label = write_volume(label_map, converted / f"{output_name(folder)}.nii.gz")
        cases.append(Case(output_name(folder), folder, label))
    named = {0: "background"} | {value: name for name, value in organs.items()}
    return Cohort(name=images.resolve().name, cases=tuple(cases), labels=named)


def _series(images: Path) -> Iterator[tuple[str, Path]]:
    """Yield identifier and folder of each series, sorted; which slices it has is seen when it is read."""
    for folder, _, names in sorted(os.walk(images)):
        files = (Path(folder) / name for name in sorted(names))
        first = next((file for file in files if is_dicom_file(file) and not is_no_scan(file)), None)
        if first is not None:
            told = dcmread(first, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True, force=True)
            yield str(told.get("SeriesInstanceUID", "")), Path(folder)


def _outlines(labels: Path) -> Iterator[tuple[Path, str]]:
    """Yield DICOM outlines and the series that each refers to, sorted."""
    for file in sorted(labels.rglob("*")):
        if dicom_labels_suffix(file) or is_dicom_file(file):
            uid = labelled_series_uid(file)
            if uid is not None:
                yield file, uid
