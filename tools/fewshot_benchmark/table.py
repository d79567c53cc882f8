"""The tables of all runs that are there: Markdown to read, CSV and JSON to go on with."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fewshot_benchmark.comparison import Comparison, compare
from fewshot_benchmark.rows import Row, make_rows
from medfm3d.volumes import write_json

HEADER = (
    "K",
    "method",
    "Dice [95 % CI]",
    "SD over seeds",
    "HD95 (mm)",
    "NSD",
    "adaptation, CPU s",
    "adaptation, s",
    "CPU s a case",
    "s a case",
    "trained weights",
    "peak memory (MB)",
    "labels",
    "runs",
)
COMPARED = (
    "K",
    "medfm3d",
    "peer at its best budget",
    "Dice difference [95 % CI]",
    "cases",
    "seeds",
    "adaptation CPU time, ratio",
)
NONE = "-"


def write_tables(results: Sequence[dict[str, Any]], work: Path, seed: int) -> str:
    """Write table.md, table.csv and table.json into the folder of results, and return the first one's text.

    Args:
        results: of all runs.
        work: the folder.
        seed: of the bootstrap.

    Raises:
        ValueError: if there is no result yet.
    """
    if not results:
        raise ValueError(f"{work}: holds no result of these cohorts yet; make the runs first")
    rows, comparisons = make_rows(results, seed), compare(results, seed)
    text = "\n".join(_markdown(results, rows, comparisons)) + "\n"
    (work / "table.md").write_text(text, encoding="utf-8")
    with (work / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    write_json(
        {"rows": [asdict(r) for r in rows], "comparisons": [asdict(c) for c in comparisons]}, work / "table.json"
    )
    return text


def _markdown(results: Sequence[dict[str, Any]], rows: Sequence[Row], comparisons: Sequence[Comparison]) -> list[str]:
    lines: list[str] = []
    for cohort in dict.fromkeys(row.cohort for row in rows):
        of_cohort = [row for row in rows if row.cohort == cohort]
        first = next(result for result in results if result["job"]["cohort"] == cohort)
        job, machine = first["job"], first["machine"]
        organs = list(dict.fromkeys(organ for row in of_cohort for organ in row.organ_dice))
        lines += [
            f"## {cohort}",
            "",
            f"Scored on the {job['split']} cases, {max(row.cases for row in of_cohort)} of them, "
            f"organs {', '.join(organs) or 'unknown'}; {job['threads']} thread(s) a run on {machine['processor']}.",
            "",
            *_table((*HEADER, *organs), [_cells(row, organs) for row in of_cohort]),
            "",
            *_notes(of_cohort),
        ]
        compared = [comparison for comparison in comparisons if comparison.cohort == cohort]
        if compared:
            lines += ["", *_table(COMPARED, [_compared(comparison) for comparison in compared]), ""]
    return lines


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_line(header), _line(["---"] * len(header)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cells(row: Row, organs: Sequence[str]) -> list[str]:
    runs = f"{row.runs}" + (f", {len(row.failures)} failed" if row.failures else "")
    distance = _number(row.hd95_mm, 1)
    if row.no_distance:
        distance += f" ({row.no_distance:.1%} without)"
    return [
        str(row.k),
        row.method,
        "failed" if row.dice is None else f"{row.dice:.3f} {_interval(row.dice_interval)}",
        _number(row.dice_seed_sd, 3),
        distance,
        _number(row.surface_dice, 3),
        _number(row.adaptation_cpu_s, 0),
        _number(row.adaptation_wall_s, 0),
        _number(row.case_cpu_s, 2),
        _number(row.case_wall_s, 2),
        NONE if row.trained_parameters is None else f"{row.trained_parameters:,}",
        _number(row.peak_memory_mb, 0),
        NONE if row.labels_used is None else str(row.labels_used),
        runs,
        *(_number(row.organ_dice.get(organ), 3) for organ in organs),
    ]


def _compared(comparison: Comparison) -> list[str]:
    return [
        str(comparison.k),
        comparison.method,
        comparison.peer,
        f"{comparison.difference:+.3f} {_interval(comparison.interval, sign=True)}",
        str(comparison.cases),
        str(comparison.seeds),
        f"{comparison.cpu_ratio:.2f}",
    ]


def _notes(rows: Sequence[Row]) -> list[str]:
    failures = [
        f"- failed: K = {row.k}, {row.method}, seed {seed}: {' '.join(reason.split())}"
        for row in rows
        for seed, reason in sorted(row.failures.items())
    ]
    methods: dict[str, list[str]] = {}
    for row in rows:
        if row.labels_note and row.method not in methods.setdefault(row.labels_note, []):
            methods[row.labels_note].append(row.method)
    return failures + [f"- {', '.join(who)}: {note}" for note, who in methods.items()]


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _interval(interval: tuple[float, float] | None, sign: bool = False) -> str:
    if interval is None:
        return f"[{NONE}]"
    low, high = (f"{limit:+.3f}" if sign else f"{limit:.3f}" for limit in interval)
    return f"[{low}, {high}]"
