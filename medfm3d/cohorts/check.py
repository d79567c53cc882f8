"""Checking a cohort's folder: every image and label map is read, and all faults are listed, not the first alone."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from medfm3d.cohorts.cohort import Case, Cohort
from medfm3d.cohorts.dataset_file import parse_cohort
from medfm3d.cohorts.errors import CohortError, ManifestError
from medfm3d.cohorts.manifest import CohortManifest
from medfm3d.cohorts.paired_folders import pair_by_name
from medfm3d.volumes import Volume, VolumeError, check_same_grid, read_label, read_volume

MAX_SIZE_RATIO = 10  # between a scan's field of view and the cohort's median, in mL
FEW_VALUES = 16  # an image with no more different voxel values is probably a label map


@dataclass(frozen=True)
class CheckFinding:
    """Something found in a case: ``case`` is None where it concerns the folder as a whole."""

    case: str | None
    message: str


@dataclass(frozen=True)
class CohortReport:
    """What ``check_cohort`` found: faults make the cohort unfit for use, remarks are worth knowing."""

    folder: Path
    num_cases: int
    num_labelled: int
    faults: tuple[CheckFinding, ...]
    remarks: tuple[CheckFinding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON can hold."""
        return asdict(self) | {"folder": str(self.folder), "ok": self.ok}


def check_cohort(
    folder: str | Path, manifest: CohortManifest | str | Path | None = None, *, progress: bool = False
) -> CohortReport:
    """Read every image and label map of a cohort and list all that is wrong.

    The folder has a dataset.json (Decathlon, nnU-Net v2), or sub-folders imagesTr and labelsTr or images and labels,
    or is itself a folder of volumes. Faults: files that are missing or that ``medfm3d.volumes`` refuses, label values
    that the cohort does not have, label maps on another grid than their image, or without one. Remarks: organs said
    to be outlined that have no voxel, or the reverse, or whose outline the source doubts; cases without a label map
    beside others that have one, or missing from the manifest's splits; images that look like label maps, or are of
    quite another size than the rest.
    """
    folder = Path(folder)
    try:
        cohort, without_image = _open(folder, manifest)
    except ManifestError as error:
        return CohortReport(folder, 0, 0, (CheckFinding(None, str(error)),), ())
    faults = [CheckFinding(None, f"{path}: this label map has no image") for path in without_image]
    remarks = [CheckFinding(None, message) for message in _cohort_remarks(cohort)]
    sizes_ml: dict[str, float] = {}
    for case in track(cohort.cases, "checking", disable=not progress, console=Console(stderr=True)):
        image, label, case_faults = _read(case, cohort)
        faults += [CheckFinding(case.name, message) for message in case_faults]
        if image is not None:
            sizes_ml[case.name] = image.array.size * image.voxel_volume_ml
            remarks += [CheckFinding(case.name, message) for message in _image_remarks(image)]
        if label is not None:
            remarks += [CheckFinding(case.name, message) for message in _outline_remarks(case, label, cohort)]
    remarks += _size_remarks(sizes_ml)
    num_labelled = sum(case.label is not None for case in cohort)
    return CohortReport(folder, len(cohort), num_labelled, tuple(faults), tuple(remarks))


def _open(folder: Path, manifest: CohortManifest | str | Path | None) -> tuple[Cohort, list[Path]]:
    """The cohort, and label maps that no case has."""
    if (folder / "dataset.json").exists():
        return parse_cohort(folder, manifest), []
    if manifest is not None:
        raise CohortError(
            f"{folder / 'dataset.json'}: does not exist: a folder is compared with a manifest by this file"
        )
    images, labels = folder, None
    for images_name, labels_name in (("imagesTr", "labelsTr"), ("images", "labels")):
        if (folder / images_name).is_dir():
            images = folder / images_name
            labels = folder / labels_name if (folder / labels_name).is_dir() else None
            break
    cases, without_image = pair_by_name(images, labels)
    return Cohort(folder.resolve().name, tuple(cases), labels={0: "background"}), without_image


def _read(case: Case, cohort: Cohort) -> tuple[Volume | None, Volume | None, list[str]]:
    """The image and the label map, as far as they can be read, and all that is wrong with them."""
    faults: list[str] = []
    image = label = None
    try:
        image = read_volume(case.image)
    except VolumeError as error:
        faults.append(str(error))
    if case.label is None:
        return image, None, faults
    try:
        # A folder without a dataset.json names no label values, so any are allowed.
        label = read_label(case.label, allowed_ids=sorted(cohort.labels) if cohort.organs else None)
        if image is not None:
            check_same_grid(image, label)
    except VolumeError as error:
        faults.append(str(error))
    return image, label, faults


def _cohort_remarks(cohort: Cohort) -> Iterator[str]:
    unlabelled = [case.name for case in cohort if case.label is None]
    if 0 < len(unlabelled) < len(cohort):
        yield f"{len(unlabelled)} of {len(cohort)} cases have no label map, such as {unlabelled[0]}"
    splits = {} if cohort.manifest is None else cohort.manifest.splits
    for split, names in splits.items():
        if missing := sorted(set(names) - set(cohort.names)):
            yield f"{len(missing)} of {len(names)} cases of the split {split} are missing, such as {missing[0]}"


def _image_remarks(image: Volume) -> Iterator[str]:
    # The range first: sorting all voxels of a CT takes seconds.
    if image.array.min() == 0 and (values := np.unique(image.array)).size <= FEW_VALUES:
        yield f"{image.source}: holds only {values.size} different values: an image, or a label map?"


def _outline_remarks(case: Case, label: Volume, cohort: Cohort) -> Iterator[str]:
    if case.suspect:
        yield f"{case.label}: its source doubts the outline of {', '.join(case.suspect)}"
    if case.annotated is None:
        return
    values = set(np.unique(label.array).tolist())
    for organ, value in cohort.organs.items():
        if case.outlines(organ) and value not in values:
            yield f"{case.label}: {organ} is said to be outlined, but no voxel has its value {value}"
        if not case.outlines(organ) and value in values:
            yield f"{case.label}: {organ} is not said to be outlined, but voxels have its value {value}"
    if unknown := sorted(set(case.annotated) - set(cohort.organs)):
        yield f"{case.label}: {', '.join(unknown)} is said to be outlined, but is no label of the cohort"


def _size_remarks(sizes_ml: dict[str, float]) -> Iterator[CheckFinding]:
    median_ml = np.median(list(sizes_ml.values())) if sizes_ml else 0.0
    for case, size_ml in sizes_ml.items():
        if not median_ml / MAX_SIZE_RATIO <= size_ml <= median_ml * MAX_SIZE_RATIO:
            yield CheckFinding(case, f"its field of view has {size_ml:.4g} mL, the cohort's median is {median_ml:.4g}")
