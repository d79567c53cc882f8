"""K-shot splits: which K outlined cases a segmenter learns from, drawn so that small and large organs are in."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from medfm3d.cohorts.cohort import Case, Cohort
from medfm3d.cohorts.errors import CohortError
from medfm3d.volumes import read_label


class KShotSplit(NamedTuple):
    """The K labelled cases to learn from, and all other cases of the cohort, labelled or not."""

    support: Cohort
    query: Cohort


def k_shot_split(
    cohort: Cohort, k: int, seed: int, organs: Sequence[str] | Mapping[str, int] | None = None
) -> KShotSplit:
    """Draw K support cases, stratified by organ volume; all other cases are queries.

    The cases that have every organ outlined and present are ranked by organ volume (by the mean of the ranks, where
    there are several organs) and cut into K equal strata; one case is drawn from each. Equal seeds give equal splits,
    whatever the order in which the cases are listed.

    Args:
        cohort: the cases to draw from.
        k: number of support cases.
        seed: seed of the draw.
        organs: organs that each support case must have: names that the cohort knows, or any names with their label
            values, by which the cases of the split then go; all of the cohort, where not given.

    Raises:
        CohortError: the cohort has no such organ or label value, has it at another value, or has fewer than K cases
            with all organs outlined.
        VolumeError: a label map cannot be read.
    """
    values = _label_values(cohort, organs)
    cohort = cohort.with_organs(values)
    if k < 1:
        raise CohortError(f"a support set has at least 1 case, not {k}")
    outlined = sorted((case for case in cohort if all(map(case.outlines, values))), key=lambda case: case.name)
    measured = {case.name: list(organ_volumes_ml(case, values).values()) for case in outlined}
    candidates = [name for name, volumes in measured.items() if all(volume > 0 for volume in volumes)]
    if len(candidates) < k:
        raise CohortError(
            f"cohort {cohort.name} has {len(candidates)} cases with {', '.join(values)} outlined, "
            f"but {k} are asked for: ask for fewer cases or organs, or outline more"
        )
    ranks = rankdata([measured[name] for name in candidates], axis=0)
    by_volume = np.argsort(ranks.mean(axis=1), kind="stable")
    generator = np.random.default_rng(seed)
    chosen = [candidates[generator.choice(stratum)] for stratum in np.array_split(by_volume, k)]
    return KShotSplit(support=cohort.select(chosen), query=cohort.without(chosen))


def organ_volumes_ml(case: Case, organs: Mapping[str, int]) -> dict[str, float]:
    """Volume in mL of each organ (name to label value) in a case's label map; 0 where it has no voxel.

    Raises:
        CohortError: the case has no label map.
        VolumeError: the label map cannot be read.
    """
    if case.label is None:
        raise CohortError(f"case {case.name} has no label map: its organs cannot be measured")
    label = read_label(case.label)
    voxels = np.bincount(label.array.ravel(), minlength=max(organs.values(), default=0) + 1)
    return {organ: float(voxels[value] * label.voxel_volume_ml) for organ, value in organs.items()}


def _label_values(cohort: Cohort, organs: Sequence[str] | Mapping[str, int] | None) -> dict[str, int]:
    if organs is None:
        organs = cohort.organs
    if not organs:
        raise CohortError(f"cohort {cohort.name} names no organs: give those to segment with their label values")
    if isinstance(organs, Mapping):
        return dict(organs)
    if unknown := [name for name in organs if name not in cohort.organs]:
        known = ", ".join(cohort.organs) or "none"
        raise CohortError(
            f"cohort {cohort.name} has no organ {', '.join(unknown)}: it has {known}; give the label values of others"
        )
    return {name: cohort.organs[name] for name in organs}
