"""Which cases a run learns from and is scored on: the same for all methods."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fewshot_benchmark.job import Job
from medfm3d.cohorts import Case, Cohort, k_shot_split, list_manifests, read_cohort

ORGANS = {
    "hippocampus": ("anterior", "posterior"),
    "headneck_ct": ("Mandible", "Brainstem", "RightParotid", "LeftParotid"),
}


@dataclass(frozen=True)
class Selection:
    """The cases of a run.

    Attributes:
        organs: name and id in the label files of each organ.
        support: the K labelled cases.
        unlabelled: further scans that a method may learn from, without their labels.
        scored: labelled cases, in neither of the others.
    """

    organs: dict[str, int]
    support: tuple[Case, ...]
    unlabelled: tuple[Case, ...]
    scored: tuple[Case, ...]

    def adaptation_cohort(self, name: str) -> Cohort:
        """Return all that a method may see while it adapts: the support set, and the unlabelled scans."""
        labels = {0: "background"} | {value: organ for organ, value in self.organs.items()}
        return Cohort(name, (*self.support, *self.unlabelled), labels)


def read_splits(job: Job) -> tuple[Cohort, Cohort | None]:
    """Return the cohort's development cases and its test cases; a cohort that no manifest knows has none of the latter.

    Raises:
        CohortError: if the folder holds no cohort, or not the cases of the manifest.
    """
    folder = Path(job.data) / job.cohort
    cohort = read_cohort(folder)
    manifest = next((m for m in list_manifests() if m.title == cohort.name and "test" in m.splits), None)
    if manifest is None:
        return cohort, None
    cohort = read_cohort(folder, manifest)
    return cohort.split("development"), cohort.split("test")


def select_cases(job: Job) -> Selection:
    """Choose a run's cases.

    The support set is drawn from the development cases, stratified by organ volume. The scored cases are the test
    cases or, with split "development", a seeded half of the development cases that are not in the support set. The
    other development cases are free to be learnt from, but their labels are taken away from them here.

    Raises:
        CohortError: as `read_splits` and `k_shot_split`.
        ValueError: if the cohort has no such organ, no test cases, or nothing is left to score.
    """
    development, test = read_splits(job)
    names = job.organs or ORGANS.get(job.cohort) or tuple(development.organs)
    if unknown := [name for name in names if name not in development.organs]:
        raise ValueError(f"{job.cohort}: has no organ {', '.join(unknown)}; it has {', '.join(development.organs)}")
    organs = {name: development.organs[name] for name in names}
    support, query = k_shot_split(development, job.k, job.seed, organs=organs)
    rest = _shuffled([case for case in query if any(map(case.outlines, names))], job.seed)
    if job.split == "development":
        scored = rest[: len(rest) // 2 if job.cases is None else job.cases]
    elif test is None:
        raise ValueError(f"{job.cohort}: no manifest fixes its test cases; score it with --split development")
    else:  # the same cases for every seed, so that seeds can be compared case by case
        scored = _shuffled([case for case in test if any(map(case.outlines, names))], 0)[: job.cases]
    if not scored:
        raise ValueError(f"{job.cohort}: no labelled case is left to score beside {job.k} support cases; lower --k")
    kept = {case.name for case in scored}
    unlabelled = tuple(replace(case, label=None, annotated=None) for case in query if case.name not in kept)
    return Selection(organs, tuple(support), unlabelled, tuple(sorted(scored, key=lambda case: case.name)))


def _shuffled(cases: Sequence[Case], seed: int) -> list[Case]:
    ordered = sorted(cases, key=lambda case: case.name)
    return [ordered[number] for number in np.random.default_rng(seed).permutation(len(ordered))]
