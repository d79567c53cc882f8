"""Dice over K, a line for each method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from fewshot_benchmark.rows import Row, make_rows
from medfm3d.volumes.palette import COLOURS

WIDTH_INCHES = 6.5  # of each cohort's plot


def draw_figure(results: Sequence[dict[str, Any]], work: Path) -> list[Path]:
    """Draw dice_over_k.png and .svg into the folder of results, a plot for each cohort, and return their paths.

    Peers have dashed lines; bars are the 95 % intervals of the table. Methods stand a little apart sideways, so that
    their bars can be told apart.
    """
    rows = [row for row in make_rows(results, seed=0) if row.dice is not None]
    cohorts = list(dict.fromkeys(row.cohort for row in rows))
    if not cohorts:
        return []
    figure = Figure(figsize=(WIDTH_INCHES * len(cohorts), 4.5), layout="constrained")
    for axes, cohort in zip(figure.subplots(1, len(cohorts), squeeze=False)[0], cohorts, strict=True):
        of_cohort = [row for row in rows if row.cohort == cohort]
        for number, method in enumerate(dict.fromkeys(row.method for row in of_cohort)):
            _draw_method(axes, [row for row in of_cohort if row.method == method], number)
        ks = sorted({row.k for row in of_cohort})
        axes.set_xscale("log")
        axes.set_xlim(ks[0] / 1.3, ks[-1] * 1.5)
        axes.xaxis.set_major_locator(FixedLocator(ks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set(title=cohort, xlabel="Labelled cases K", ylabel="Mean Dice")
        axes.grid(axis="y", linewidth=0.4)
        for text in axes.legend(fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)
    paths = [work / "dice_over_k.png", work / "dice_over_k.svg"]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths


def _draw_method(axes: Any, rows: Sequence[Row], number: int) -> None:
    shift = 1 + 0.02 * number
    below = [row.dice - row.dice_interval[0] if row.dice_interval else 0.0 for row in rows]
    above = [row.dice_interval[1] - row.dice if row.dice_interval else 0.0 for row in rows]
    axes.errorbar(
        [row.k * shift for row in rows],
        [row.dice for row in rows],
        yerr=[below, above],
        label=rows[0].method,
        color=COLOURS[number % len(COLOURS)],
        linestyle="--" if rows[0].peer else "-",
        marker="s" if rows[0].peer else "o",
        markersize=4,
        linewidth=1.4,
        capsize=2,
    )
