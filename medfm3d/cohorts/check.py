"""Checking a cohort's folder: every image and label map is read, and all faults are listed, not the first alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from medfm3d.cohorts.cohort import Case, Cohort, cohort_from_folders, parse_cohort
from medfm3d.cohorts.errors import CohortError, ManifestError
from medfm3d.cohorts.manifest import CohortManifest
from medfm3d.volumes import VolumeError, check_same_grid, read_label, read_volume


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
        return {
            "folder": str(self.folder),
            "ok": self.ok,
            "num_cases": self.num_cases,
            "num_labelled": self.num_labelled,
            "faults": [{"case": finding.case, "message": finding.message} for finding in self.faults],
            "remarks": [{"case": finding.case, "message": finding.message} for finding in self.remarks],
        }


def check_cohort(
    folder: str | Path, manifest: CohortManifest | str | Path | None = None, *, progress: bool = False
) -> CohortReport:
    """Read every image and label map of a cohort and list all that is wrong.

    The folder has a dataset.json (Decathlon, nnU-Net v2), or sub-folders imagesTr and labelsTr or images and labels,
    or is itself a folder of volumes. Faults: files that are missing or that ``medfm3d.volumes`` refuses, label values
    that the cohort does not have, label maps on another grid than their image. Remarks: organs said to be outlined
    that have no voxel, or the reverse, and cases of the manifest's splits that the folder lacks.
    """
    folder = Path(folder)
    try:
        cohort = _open(folder, manifest)
    except ManifestError as error:
        return CohortReport(folder, 0, 0, (CheckFinding(None, str(error)),), ())
    faults: list[CheckFinding] = []
    remarks = list(_split_remarks(cohort))
    for case in track(cohort.cases, "checking", disable=not progress, console=Console(stderr=True)):
        case_faults, case_remarks = _check_case(case, cohort)
        faults += [CheckFinding(case.name, message) for message in case_faults]
        remarks += [CheckFinding(case.name, message) for message in case_remarks]
    num_labelled = sum(case.label is not None for case in cohort)
    return CohortReport(folder, len(cohort), num_labelled, tuple(faults), tuple(remarks))


def _open(folder: Path, manifest: CohortManifest | str | Path | None) -> Cohort:
    if (folder / "dataset.json").exists():
        return parse_cohort(folder, manifest)
    if manifest is not None:
        raise CohortError(
            f"{folder / 'dataset.json'}: does not exist: a folder is compared with a manifest by this file"
        )
    for images, labels in (("imagesTr", "labelsTr"), ("images", "labels")):
        if (folder / images).is_dir():
            return cohort_from_folders(folder / images, folder / labels if (folder / labels).is_dir() else None)
    return cohort_from_folders(folder)


def _check_case(case: Case, cohort: Cohort) -> tuple[list[str], list[str]]:
    faults: list[str] = []
    image = label = None
    try:
        image = read_volume(case.image)
    except VolumeError as error:
        faults.append(str(error))
    if case.label is None:
        return faults, []
    try:
        # A folder without a dataset.json names no label values, so any are allowed.
        label = read_label(case.label, allowed_ids=sorted(cohort.labels) if cohort.organs else None)
    except VolumeError as error:
        faults.append(str(error))
    if label is None:
        return faults, []
    if image is not None:
        try:
            check_same_grid(image, label)
        except VolumeError as error:
            faults.append(str(error))
    return faults, list(_outline_remarks(case, cohort, set(np.unique(label.array).tolist())))


def _outline_remarks(case: Case, cohort: Cohort, values: set[int]) -> Iterator[str]:
    if case.annotated is None:
        return
    for organ, value in cohort.organs.items():
        if case.outlines(organ) and value not in values:
            yield f"{case.label}: {organ} is said to be outlined, but no voxel has its value {value}"
        if not case.outlines(organ) and value in values:
            yield f"{case.label}: {organ} is not said to be outlined, but voxels have its value {value}"
    if unknown := sorted(set(case.annotated) - set(cohort.organs)):
        yield f"{case.label}: {', '.join(unknown)} is said to be outlined, but is no label of the cohort"


def _split_remarks(cohort: Cohort) -> Iterator[CheckFinding]:
    if cohort.manifest is None:
        return
    for split, names in cohort.manifest.splits.items():
        if missing := sorted(set(names) - set(cohort.names)):
            yield CheckFinding(None, f"{len(missing)} of {len(names)} cases of the split {split} are not in the folder")
