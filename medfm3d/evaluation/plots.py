"""Plots of scores and volumes, as SVG that takes the page's own colour of text."""

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medfm3d.evaluation.evaluation import Evaluation
from medfm3d.evaluation.predicted_quality import CaseQuality
from medfm3d.evaluation.summary import METRICS
from medfm3d.volumes.palette import organ_colours

TEXT = "#010203"  # stands for the page's text colour until the SVG is written
SPREAD = 0.3  # of the dots of a column, to either side
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
} | dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), TEXT)


def plot_metrics(evaluation: Evaluation) -> str:
    """Return one plot per metric: a dot per case, a column per organ, the mean and its 95 % interval."""
    organs, summary = evaluation.organs, evaluation.summary()
    scores = [score for score in evaluation.scores if not score.absent]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 6.4), layout="constrained")
        for axes, (metric, title) in zip(figure.subplots(2, 2).flat, METRICS.items(), strict=True):
            columns = {organ: [getattr(score, metric) for score in scores if score.organ == organ] for organ in organs}
            _dots(axes, columns, title)
            for position, organ in enumerate(organs):
                of_organ = summary[organ].metrics[metric]
                if of_organ.interval is not None:
                    axes.plot([position + 0.42] * 2, of_organ.interval, color=TEXT, linewidth=1.5)
                if of_organ.mean is not None:
                    axes.plot(position + 0.42, of_organ.mean, "D", color=TEXT, markersize=4)
            if metric == "volume_error_ml":
                axes.axhline(0, color=TEXT, linewidth=0.6)
            elif metric != "hd95_mm":
                axes.set_ylim(-0.03, 1.03)
            else:
                axes.set_ylim(bottom=0)
        return _svg(figure, "metrics")


def plot_volumes(evaluation: Evaluation) -> str:
    """Return two plots: Dice against the reference volume, and predicted against reference volume."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4), layout="constrained")
        against_dice, against_volume = figure.subplots(1, 2)
        for organ, colour in organ_colours(evaluation.organs).items():
            scores = [score for score in evaluation.scores if score.organ == organ and not score.absent]
            reference = [score.reference_volume_ml for score in scores]
            style = {"color": colour, "s": 28, "label": organ, "edgecolors": TEXT, "linewidths": 0.4}
            against_dice.scatter(reference, [score.dice for score in scores], **style)
            against_volume.scatter(reference, [score.volume_ml for score in scores], **style)
        against_dice.set(xlabel="Reference volume (mL)", ylabel="Dice", ylim=(-0.03, 1.03))
        against_dice.set_xlim(left=0)
        against_volume.axline((0, 0), slope=1, color=TEXT, linewidth=0.8, linestyle="--")
        against_volume.set(xlabel="Reference volume (mL)", ylabel="Predicted volume (mL)")
        if evaluation.organs:
            legend = against_volume.legend(frameon=False)
            for text in legend.get_texts():
                text.set_parse_math(False)
        return _svg(figure, "volumes")


def plot_predicted_volumes(volumes_ml: Mapping[str, Mapping[str, float]], organs: Sequence[str]) -> str:
    """Return a plot of each organ's predicted volume, a dot per case; `volumes_ml` is by case and organ."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4), layout="constrained")
        axes = figure.subplots()
        _dots(axes, {organ: [volumes[organ] for volumes in volumes_ml.values()] for organ in organs}, "Volume (mL)")
        axes.set_ylim(bottom=0)
        return _svg(figure, "predicted-volumes")


def plot_predicted_dice(ranked: Sequence[CaseQuality], organs: Sequence[str]) -> str:
    """Return a plot of true against predicted Dice, a dot per case and organ; on the dashed line both are equal."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.5, 5), layout="constrained")
        axes = figure.subplots()
        for organ, colour in organ_colours(organs).items():
            pairs = [(one.predicted[organ], one.true[organ]) for one in ranked if organ in one.true]
            if pairs:
                style = {"color": colour, "s": 28, "label": organ, "edgecolors": TEXT, "linewidths": 0.4}
                axes.scatter(*zip(*pairs, strict=True), **style)
        axes.axline((0, 0), slope=1, color=TEXT, linewidth=0.8, linestyle="--")
        axes.set(xlabel="Predicted Dice", ylabel="True Dice", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        for text in axes.legend(frameon=False).get_texts():
            text.set_parse_math(False)
        return _svg(figure, "predicted-dice")


def _dots(axes: Axes, columns: Mapping[str, Sequence[float | None]], title: str) -> None:
    colours = organ_colours(list(columns))
    for position, (organ, values) in enumerate(columns.items()):
        known = [value for value in values if value is not None]
        # Spread in the order of the cases, evenly: chance would draw another picture each time.
        offsets = np.linspace(-SPREAD, SPREAD, len(known)) if len(known) > 1 else np.zeros(len(known))
        axes.scatter(position + offsets, known, color=colours[organ], s=22, edgecolors=TEXT, linewidths=0.4)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_xticks(range(len(columns)), list(columns), rotation=25 if len(columns) > 4 else 0)
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
        text.set_horizontalalignment("right" if len(columns) > 4 else "center")


def _svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element that can stand in a page beside others."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):  # ids that repeat from run to run and differ from plot to plot
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r'<g id="[^"]*"', "<g", svg).replace(TEXT, "currentColor")
