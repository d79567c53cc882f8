"""medfm3d against its peers, case by case."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewshot_benchmark.rows import score_table
from medfm3d.evaluation.intervals import mean_interval, mean_of_columns


@dataclass(frozen=True)
class Comparison:
    """A method's Dice minus a peer's, over the same cases, organs and support sets.

    Attributes:
        cohort: its name.
        k: labelled cases.
        method: label of medfm3d's method.
        peer: label of the peer, with the budget at which its mean Dice is best.
        seeds: number of support sets that both have scores for.
        cases: number of cases.
        difference: mean of the differences.
        interval: its 95 % interval over cases; None as in `mean_interval`.
        cpu_ratio: CPU seconds of the method's adaptation over those of the peer's.
    """

    cohort: str
    k: int
    method: str
    peer: str
    seeds: int
    cases: int
    difference: float
    interval: tuple[float, float] | None
    cpu_ratio: float


def compare(results: Sequence[dict[str, Any]], seed: int) -> list[Comparison]:
    """Compare every method of medfm3d with every peer at the peer's best budget.

    The best budget is that of the best mean Dice over the very cases that are compared, which can only help the peer.
    A run that one of both lacks is left out for both.
    """
    done: dict[tuple[str, int], dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        if result["status"] == "done":
            job = result["job"]
            done[job["cohort"], job["k"]][result["label"]][job["seed"]] = result
    comparisons = []
    for (cohort, k), methods in sorted(done.items()):
        for peer in _best_budgets(methods):
            for method, runs in methods.items():
                seeds = sorted(runs.keys() & methods[peer].keys())
                if _is_peer(runs) or not seeds:
                    continue
                ours, theirs = [runs[s] for s in seeds], [methods[peer][s] for s in seeds]
                table = _same_cases(ours, theirs)
                comparisons.append(
                    Comparison(
                        cohort,
                        k,
                        method,
                        peer,
                        len(seeds),
                        len(table),
                        mean_of_columns(table),
                        mean_interval(table, seed),
                        _median_cpu_s(ours) / _median_cpu_s(theirs),
                    )
                )
    return comparisons


def _same_cases(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> np.ndarray:
    for one, other in zip(ours, theirs, strict=True):
        for key in ("scored", "support", "organs"):
            if one[key] != other[key]:
                job = one["job"]
                raise ValueError(
                    f"{job['cohort']}, K={job['k']}, seed {job['seed']}: {one['label']} and {other['label']} were made "
                    f"with another {key}, so that they cannot be compared; make one of them again"
                )
    return score_table(ours, "dice") - score_table(theirs, "dice")


def _best_budgets(methods: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    """Return the label of each peer at its best budget."""
    best: dict[str, tuple[float, str]] = {}
    for label, runs in methods.items():
        if _is_peer(runs):
            name = next(iter(runs.values()))["job"]["method"]
            # More support sets go before a better mean over fewer of them.
            standing = (len(runs), mean_of_columns(score_table(list(runs.values()), "dice")), label)
            best[name] = max(best.get(name, (0, 0.0, "")), standing)
    return [label for *_, label in best.values()]


def _is_peer(runs: dict[int, dict[str, Any]]) -> bool:
    return next(iter(runs.values()))["job"]["budget_s"] is not None


def _median_cpu_s(results: Sequence[dict[str, Any]]) -> float:
    return float(np.median([result["adaptation"]["cpu_s"] for result in results]))
