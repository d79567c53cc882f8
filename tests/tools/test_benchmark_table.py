import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fewshot_benchmark.comparison import compare
from fewshot_benchmark.figure import draw_figure
from fewshot_benchmark.job import Job
from fewshot_benchmark.results import failed_result, read_result, read_results, write_result
from fewshot_benchmark.rows import make_rows
from fewshot_benchmark.table import write_tables

ORGANS = {"anterior": 1, "posterior": 2}


def made_up_job(method: str, k: int = 5, seed: int = 0, budget_s: float | None = None, **conditions) -> Job:
    return Job("data", "hippocampus", (), k, seed, method, budget_s=budget_s, **conditions)


def made_up_result(job: Job, dice: np.ndarray, cpu_s: float = 100.0) -> dict[str, Any]:
    """Result of a run with the Dice given, (cases, organs); NaN where an organ was not outlined."""
    scores = [
        {
            "case": f"case_{case}",
            "organ": organ,
            "dice": value,
            "hd95_mm": 10 * (1 - value) if value else None,
            "surface_dice": value,
        }
        for case, row in enumerate(dice.tolist())
        for organ, value in zip(ORGANS, row, strict=True)
        if not np.isnan(value)
    ]
    return failed_result(job, "") | {
        "status": "done",
        "organs": ORGANS,
        "support": [f"support_{n}" for n in range(job.k)],
        "scored": [f"case_{n}" for n in range(len(dice))],
        "labels_used": job.k,
        "labels_note": "trained from scratch" if job.is_peer else "encoder weights pretrained on images",
        "adaptation": {"wall_s": cpu_s * 2, "cpu_s": cpu_s},
        "segmentation": {"wall_s": 2.0 * len(dice), "cpu_s": 1.0 * len(dice)},
        "trained_parameters": 1234,
        "peak_memory_mb": 1000.0 + job.seed,
        "scores": scores,
        "details": {},
    }


@pytest.fixture
def results() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for seed in range(3):
        ours = rng.uniform(0.7, 0.9, (8, 2))
        ours[0, 0], ours[1, 1] = 0.0, np.nan
        made.append(made_up_result(made_up_job("decoder", seed=seed), ours, 60.0))
        for budget_s, loss in ((600.0, 0.3), (3600.0, 0.1)):
            theirs = np.clip(ours - loss, 0, 1)
            made.append(made_up_result(made_up_job("nnunet", seed=seed, budget_s=budget_s), theirs, budget_s))
    made.append(failed_result(made_up_job("decoder", k=1), "RuntimeError: out\nof memory"))
    return made


def test_rows_hold_means_over_organs_cases_and_seeds(results):
    rows = {(row.k, row.method): row for row in make_rows(results, seed=0)}
    row = rows[5, "decoder"]
    columns = []
    for result in results:
        if result["label"] == "decoder" and result["status"] == "done":
            columns += [[s["dice"] for s in result["scores"] if s["organ"] == organ] for organ in ORGANS]
    assert row.dice == pytest.approx(np.mean([np.mean(column) for column in columns]))
    assert row.dice_seed_sd == pytest.approx(
        np.std([np.mean([np.mean(c) for c in columns[2 * n : 2 * n + 2]]) for n in range(3)], ddof=1)
    )
    assert row.dice_interval[0] < row.dice < row.dice_interval[1]
    assert row.organ_dice["posterior"] == pytest.approx(np.mean(np.concatenate(columns[1::2])))
    assert row.no_distance == pytest.approx(1 / 15)  # the empty masks
    assert (row.adaptation_cpu_s, row.adaptation_wall_s, row.case_cpu_s, row.case_wall_s) == (60, 120, 1, 2)
    assert (row.peak_memory_mb, row.trained_parameters, row.labels_used, row.runs, row.cases) == (1002, 1234, 5, 3, 8)


def test_tables_show_failures_and_what_the_weights_saw(results, tmp_path: Path):
    text = write_tables(results, tmp_path, seed=0)
    assert text == (tmp_path / "table.md").read_text()
    assert "- failed: K = 1, decoder, seed 0: RuntimeError: out of memory" in text
    line = next(line for line in text.splitlines() if line.startswith("| 1 | decoder"))
    assert "failed" in line and "0, 1 failed" in line
    assert "- decoder: encoder weights pretrained on images" in text
    with (tmp_path / "table.csv").open() as file:
        lines = {(row["k"], row["method"]): row for row in csv.DictReader(file)}
    expected = next(row for row in make_rows(results, seed=0) if row.method == "nnunet@600s")
    assert float(lines["5", "nnunet@600s"]["dice"]) == pytest.approx(expected.dice)
    assert f"{expected.dice:.3f} [{expected.dice_interval[0]:.3f}, {expected.dice_interval[1]:.3f}]" in text
    assert {row["method"] for row in json.loads((tmp_path / "table.json").read_text())["rows"]} == {
        "decoder",
        "nnunet@600s",
        "nnunet@3600s",
    }
    with pytest.raises(ValueError, match="no result"):
        write_tables([], tmp_path, seed=0)


def test_peers_are_compared_at_their_best_budget_over_the_same_cases(results):
    (comparison,) = compare(results, seed=0)
    assert (comparison.method, comparison.peer, comparison.seeds) == ("decoder", "nnunet@3600s", 3)
    # 0.1 less everywhere, but for the organ that neither found, and for the one that was not outlined.
    assert comparison.difference == pytest.approx((0.1 * 7 / 8 + 0.1) / 2)
    assert comparison.interval[0] < comparison.difference <= comparison.interval[1]
    assert comparison.cpu_ratio == pytest.approx(60 / 3600)
    one_less = [r for r in results if (r["label"], r["job"]["seed"]) != ("nnunet@3600s", 2)]
    assert next(iter(compare(one_less, seed=0))).peer == "nnunet@600s"  # the one with all support sets
    results[0]["scored"] = results[0]["scored"][1:]
    with pytest.raises(ValueError, match="another scored"):
        compare(results, seed=0)


def test_figure_is_drawn_for_what_has_scores(results, tmp_path: Path):
    png, svg = draw_figure(results, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "nnunet" in svg.read_text() and svg.read_text().count('id="LineCollection') >= 3  # an interval a method
    assert draw_figure([result for result in results if result["status"] == "failed"], tmp_path) == []


def test_results_made_under_other_conditions_are_refused(tmp_path: Path):
    job = made_up_job("decoder")
    assert read_result(job, tmp_path) is None
    write_result(made_up_result(job, np.full((2, 2), 0.8)), job, tmp_path)
    assert read_result(job, tmp_path)["status"] == "done"
    with pytest.raises(ValueError, match="another threads"):
        read_result(made_up_job("decoder", threads=2), tmp_path)
    other = made_up_job("full", split="development")
    write_result(made_up_result(other, np.full((2, 2), 0.8)), other, tmp_path)
    with pytest.raises(ValueError, match="different split"):
        read_results(tmp_path, ["hippocampus"])
