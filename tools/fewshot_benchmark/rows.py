"""What the runs of one cohort, K and method amount to: a row of the table."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medfm3d.evaluation.intervals import mean_interval, mean_of_columns


@dataclass(frozen=True)
class Row:
    """One cohort, K and method over all seeds.

    Attributes:
        cohort: its name.
        k: labelled cases.
        method: label of the method.
        peer: whether it is a peer's.
        budget_s: the peer's budget; None for medfm3d.
        runs: number of runs that have scores.
        failures: seed and reason of each run that has none.
        cases: scored cases.
        dice: mean over organs, cases and seeds; None without a run.
        dice_interval: its 95 % interval over cases; None as in `mean_interval`.
        dice_seed_sd: sample standard deviation of the seeds' means; None below two seeds.
        hd95_mm: mean where prediction and label both have the organ; None if that is nowhere.
        no_distance: share of scores that have no HD95, as one of both lacks the organ.
        surface_dice: mean of the surface Dice.
        organ_dice: mean Dice of each organ.
        adaptation_wall_s: median over seeds; None where none is known.
        adaptation_cpu_s: median over seeds.
        case_wall_s: seconds on the clock to segment a case, median over seeds.
        case_cpu_s: CPU seconds likewise.
        trained_parameters: number of weights that were trained.
        peak_memory_mb: largest of all seeds.
        labels_used: labelled cases used anywhere.
        labels_note: what the weights had seen before.
    """

    cohort: str
    k: int
    method: str
    peer: bool
    budget_s: float | None
    runs: int
    failures: dict[int, str]
    cases: int = 0
    dice: float | None = None
    dice_interval: tuple[float, float] | None = None
    dice_seed_sd: float | None = None
    hd95_mm: float | None = None
    no_distance: float | None = None
    surface_dice: float | None = None
    organ_dice: dict[str, float] = field(default_factory=dict)
    adaptation_wall_s: float | None = None
    adaptation_cpu_s: float | None = None
    case_wall_s: float | None = None
    case_cpu_s: float | None = None
    trained_parameters: int | None = None
    peak_memory_mb: float | None = None
    labels_used: int | None = None
    labels_note: str = ""


def make_rows(results: Sequence[dict[str, Any]], seed: int) -> list[Row]:
    """Return a row for each cohort, K and method, ordered by them; `seed` is the bootstrap's."""
    groups: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        job = result["job"]
        groups[job["cohort"], job["k"], job["budget_s"] is not None, result["label"]].append(result)
    return [_make_row(*key, groups[key], seed) for key in sorted(groups)]


def _make_row(cohort: str, k: int, peer: bool, method: str, results: list[dict[str, Any]], seed: int) -> Row:
    done = [result for result in results if result["status"] == "done"]
    failures = {result["job"]["seed"]: result["error"] for result in results if result["status"] == "failed"}
    budget_s = results[0]["job"]["budget_s"]
    if not done:
        return Row(cohort, k, method, peer, budget_s, 0, failures)
    table = score_table(done, "dice")
    organs = list(done[0]["organs"])
    hd95 = score_table(done, "hd95_mm")
    seeds = [mean_of_columns(score_table([result], "dice")) for result in done]
    walls = [wall for result in done if (wall := result["adaptation"]["wall_s"]) is not None]
    return Row(
        cohort=cohort,
        k=k,
        method=method,
        peer=peer,
        budget_s=budget_s,
        runs=len(done),
        failures=failures,
        cases=len(table),
        dice=mean_of_columns(table),
        dice_interval=mean_interval(table, seed),
        dice_seed_sd=float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
        hd95_mm=None if np.isnan(hd95).all() else mean_of_columns(hd95),
        no_distance=float((~np.isnan(table) & np.isnan(hd95)).sum() / (~np.isnan(table)).sum()),
        surface_dice=mean_of_columns(score_table(done, "surface_dice")),
        organ_dice={organ: float(np.nanmean(table[:, column :: len(organs)])) for column, organ in enumerate(organs)},
        adaptation_wall_s=float(np.median(walls)) if walls else None,
        adaptation_cpu_s=float(np.median([result["adaptation"]["cpu_s"] for result in done])),
        case_wall_s=_per_case(done, "wall_s"),
        case_cpu_s=_per_case(done, "cpu_s"),
        trained_parameters=done[0]["trained_parameters"],
        peak_memory_mb=max(result["peak_memory_mb"] for result in done),
        labels_used=max(result["labels_used"] for result in done),
        labels_note=done[0]["labels_note"],
    )


def score_table(results: Sequence[dict[str, Any]], metric: str) -> np.ndarray:
    """Return a metric as a table with a row for each case, and a column for each organ of each result; NaN for none.

    Drawing rows of it with replacement draws cases, each with all its organs under all support sets: what these have in
    common in a case is not taken for so many independent cases.
    """
    cases = sorted({score["case"] for result in results for score in result["scores"]})
    table = np.full((len(cases), sum(len(result["organs"]) for result in results)), np.nan)
    rows = {case: row for row, case in enumerate(cases)}
    first = 0
    for result in results:
        columns = {organ: first + number for number, organ in enumerate(result["organs"])}
        first += len(columns)
        for score in result["scores"]:
            if score[metric] is not None:
                table[rows[score["case"]], columns[score["organ"]]] = score[metric]
    return table


def _per_case(results: Sequence[dict[str, Any]], clock: str) -> float:
    return float(np.median([result["segmentation"][clock] / len(result["scored"]) for result in results]))
