"""The figures of a run as a table, and the ratios that were promised."""

import statistics
from dataclasses import dataclass
from typing import Any

from fewshot_benchmark.clock import Stage

from pretraining_benchmark.contenders import MEANINGS


@dataclass(frozen=True)
class Target:
    """A step time that shall be at most a share of another's."""

    name: str
    reference: str
    at_most: float


TARGETS = (Target("vit-mae", "vit-simmim", 0.35), Target("swin-mae", "swin-simmim", 0.45))


def summarise(times: dict[str, list[Stage]]) -> dict[str, dict[str, float]]:
    """Return median and least seconds of a step on the clock, and its median CPU seconds over all threads."""
    return {
        name: {
            "median_s": statistics.median(stage.wall_s for stage in stages),
            "fastest_s": min(stage.wall_s for stage in stages),
            "cpu_s": statistics.median(stage.cpu_s for stage in stages),
        }
        for name, stages in times.items()
    }


def check_targets(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each target whose two contenders were measured, with the ratios reached."""
    checked = []
    for target in TARGETS:
        if target.name not in rows or target.reference not in rows:
            continue
        ours, full = rows[target.name], rows[target.reference]
        ratios = {key: ours[key] / full[key] for key in ("median_s", "fastest_s", "memory_mib")}
        checked.append({**vars(target), **ratios, "reached": ratios["median_s"] <= target.at_most})
    return checked


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [f"{'':14} {'median s':>9} {'fastest s':>9} {'CPU s':>7} {'MiB':>7} {'M weights':>9}"]
    for name, row in rows.items():
        lines.append(
            f"{name:14} {row['median_s']:9.3f} {row['fastest_s']:9.3f} {row['cpu_s']:7.3f} {row['memory_mib']:7.0f} "
            f"{row['weights'] / 1e6:9.2f}  {MEANINGS[name]}"
        )
    return "\n".join(lines)


def verdict(checked: dict[str, Any]) -> str:
    """Return a target and what was reached in a sentence."""
    said = "reached" if checked["reached"] else "MISSED"
    return (
        f"{checked['name']} takes {checked['median_s']:.2f} of the time of {checked['reference']} (target: at most "
        f"{checked['at_most']}, {said}; fastest steps: {checked['fastest_s']:.2f}), and {checked['memory_mib']:.2f} of "
        "its memory"
    )
