"""Which cases are the support set and which are queries."""

from collections.abc import Mapping, Sequence

from medfm3d.cohorts import Case, Cohort, ManifestError, k_shot_split


def choose_support(
    cohort: Cohort,
    *,
    k: int = 5,
    names: Sequence[str] | None = None,
    organs: Mapping[str, int],
    seed: int = 0,
) -> tuple[list[Case], list[Case]]:
    """Return the support set and the remaining cases.

    Args:
        cohort: all cases.
        k: size of the support set if no names are given; it is then drawn from the labelled cases, stratified by organ
            volume (see `medfm3d.cohorts.k_shot_split`).
        names: names of the support cases.
        organs: label id of each organ.
        seed: of the draw.

    Raises:
        ManifestError: if a named case is not in the cohort, or is named twice.
    """
    if names is None:
        return k_shot_split(cohort, k, seed, organs=organs)
    by_name = {case.name: case for case in cohort.cases}
    unknown = [name for name in names if name not in by_name]
    if unknown or len(set(names)) != len(names):
        raise ManifestError(
            f"{cohort.folder}: cases {', '.join(unknown or names)} are unknown or named twice; the cohort has "
            f"{', '.join(sorted(by_name)[:5])} and {max(0, len(by_name) - 5)} more"
        )
    return [by_name[name] for name in names], [case for case in cohort.cases if case.name not in set(names)]
