"""Which cases are the support set and which are queries."""

from collections.abc import Mapping, Sequence

from medfm3d.cohorts import Case, Cohort, k_shot_split


def choose_support(
    cohort: Cohort,
    *,
    k: int = 5,
    names: Sequence[str] | str | None = None,
    organs: Mapping[str, int],
    seed: int = 0,
) -> tuple[list[Case], list[Case]]:
    """Return the support set and the remaining cases, whose outlined organs go by the names given.

    Args:
        cohort: all cases.
        k: size of the support set if no names are given; it is then drawn from the labelled cases, stratified by organ
            volume (see `medfm3d.cohorts.k_shot_split`).
        names: names of the support cases, in a sequence or with commas between them.
        organs: label id of each organ.
        seed: of the draw.

    Raises:
        CohortError: if a named case is not in the cohort or is named twice, if there are too few labelled cases to
            draw from, or if the cohort's own names and label values say that an organ is not that one.
    """
    if names is None:
        support, query = k_shot_split(cohort, k, seed, organs=organs)
        return list(support), list(query)
    cohort = cohort.with_organs(organs)
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else [str(name) for name in names]
    return list(cohort.select(names)), list(cohort.without(names))
