"""K-shot splits: which K outlined cases a segmenter learns from, drawn so that small and large organs are in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from medfm3d.cohorts.cohort import Case, Cohort
from medfm3d.cohorts.errors import CohortError
from medfm3d.volumes import read_label


class KShotSplit(NamedTuple):
    """The K labelled cases to learn from, and the cases to segment."""

    support: Cohort
    query: Cohort


def k_shot_split(
    cohort: Cohort,
    k: int,
    seed: int,
    organs: Sequence[str] | None = None,
    exclude: Iterable[str] = (),
    volumes_ml: Mapping[str, Mapping[str, float]] | None = None,
) -> KShotSplit:
    """Draw K support cases, stratified by organ volume; all other cases that are not excluded are queries.

    The cases that have every organ outlined and present are ranked by organ volume (by the mean of the ranks, where
    there are several organs) and cut into K equal strata; one case is drawn from each. Equal seeds give equal splits,
    whatever the order in which the cases are listed.

    Args:
        cohort: the cases to draw from.
        k: number of support cases.
        seed: seed of the draw.
        organs: organs that each support case must have; all of the cohort, where not given.
        exclude: names of cases that go neither to the support set nor to the queries.
        volumes_ml: case name to organ to volume in mL, where they are known; measured from the label maps otherwise.

    Raises:
        CohortError: the cohort has no such organ, or has fewer than K cases with all organs outlined.
    """
    organs = list(cohort.organs if organs is None else organs)
    if unknown := [organ for organ in organs if organ not in cohort.organs]:
        raise CohortError(f"cohort {cohort.name} has no organ {', '.join(unknown)}: it has {', '.join(cohort.organs)}")
    if not organs:
        raise CohortError(f"cohort {cohort.name} has no organs: give the label values of those to segment")
    if k < 1:
        raise CohortError(f"a support set has at least 1 case, not {k}")
    eligible = cohort.without(exclude)
    outlined = sorted((c for c in eligible if all(map(c.outlines, organs))), key=lambda case: case.name)
    measured = {case.name: _volumes_ml(case, cohort, organs, volumes_ml) for case in outlined}
    candidates = [name for name, volumes in measured.items() if all(volume > 0 for volume in volumes)]
    if len(candidates) < k:
        raise CohortError(
            f"cohort {cohort.name} has {len(candidates)} cases with {', '.join(organs)} outlined and not excluded, "
            f"but {k} are asked for: ask for fewer cases or organs, or outline more"
        )
    ranks = rankdata([measured[name] for name in candidates], axis=0)
    by_volume = np.argsort(ranks.mean(axis=1), kind="stable")
    generator = np.random.default_rng(seed)
    chosen = [candidates[generator.choice(stratum)] for stratum in np.array_split(by_volume, k)]
    return KShotSplit(support=cohort.select(chosen), query=eligible.without(chosen))


def organ_volumes_ml(case: Case, organs: Mapping[str, int]) -> dict[str, float]:
    """Volume in mL of each organ (name to label value) in a case's label map; 0 where it has no voxel.

    Raises:
        CohortError: the case has no label map.
        VolumeError: the label map cannot be read.
    """
    if case.label is None:
        raise CohortError(f"case {case.name} has no label map: its organs cannot be measured")
    label = read_label(case.label)
    values, counts = np.unique(label.array, return_counts=True)
    voxels = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return {organ: voxels.get(value, 0) * label.voxel_volume_ml for organ, value in organs.items()}


def _volumes_ml(
    case: Case, cohort: Cohort, organs: Sequence[str], known: Mapping[str, Mapping[str, float]] | None
) -> list[float]:
    if known is not None and case.name in known:
        return [known[case.name][organ] for organ in organs]
    measured = organ_volumes_ml(case, {organ: cohort.organs[organ] for organ in organs})
    return [measured[organ] for organ in organs]
