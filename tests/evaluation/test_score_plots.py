"""Plots: a dot per value and nothing else, names taken as they are."""

from xml.etree import ElementTree

from medfm3d.evaluation import Evaluation, OrganScore
from medfm3d.evaluation.plots import plot_metrics, plot_predicted_volumes, plot_volumes
from medfm3d.volumes.palette import organ_colours

SCORES = tuple(
    OrganScore(f"case_{n}", "<b>$x_1$ & y", 0.8 + n / 50, 1.0 + n, 0.9, 2.0 + n, 2.0, 0.0 + n) for n in range(5)
)


def dots(svg, colour):
    return svg.count(f"fill: {colour}; stroke: currentColor")


def test_a_dot_per_case_and_metric():
    evaluation = Evaluation(SCORES, ("<b>$x_1$ & y",), 2.0, 0)
    (colour,) = organ_colours(evaluation.organs).values()
    assert dots(plot_metrics(evaluation), colour) == 4 * len(SCORES)
    missed = OrganScore("case_9", "<b>$x_1$ & y", 0.0, None, 0.0, 0.0, 2.0, -2.0)
    with_missed = Evaluation((*SCORES, missed), evaluation.organs, 2.0, 0)
    assert dots(plot_metrics(with_missed), colour) == 4 * (len(SCORES) + 1) - 1  # no HD95


def test_an_organ_that_is_absent_in_both_has_no_dot():
    absent = OrganScore("case_9", "<b>$x_1$ & y", None, None, None, 0.0, 0.0, 0.0)
    with_absent, without = (Evaluation(scores, ("<b>$x_1$ & y",), 2.0, 0) for scores in ((*SCORES, absent), SCORES))
    assert plot_metrics(with_absent) == plot_metrics(without)
    assert plot_volumes(with_absent) == plot_volumes(without)


def test_names_stand_in_the_plot_as_they_are():
    evaluation = Evaluation(SCORES, ("<b>$x_1$ & y",), 2.0, 0)
    volumes = {score.case: {score.organ: score.volume_ml} for score in SCORES}
    for svg in (plot_metrics(evaluation), plot_volumes(evaluation), plot_predicted_volumes(volumes, evaluation.organs)):
        texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
        assert "<b>$x_1$ & y" in texts
