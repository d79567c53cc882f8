"""What the scores of many cases say about one organ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfm3d.evaluation.intervals import mean_interval
from medfm3d.evaluation.scores import OrganScore

METRICS = {
    "dice": "Dice",
    "hd95_mm": "HD95 (mm)",
    "surface_dice": "Surface Dice",
    "volume_error_ml": "Volume error (mL)",
}


@dataclass(frozen=True)
class MetricSummary:
    """One metric over the cases that have a value.

    Attributes:
        n: cases with a value.
        mean: their mean; None without cases.
        median: their median; None without cases.
        sd: sample standard deviation; None for fewer than two cases.
        interval: 95 % bootstrap interval of the mean; None for fewer than two cases or if all are equal.
    """

    n: int
    mean: float | None
    median: float | None
    sd: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class OrganSummary:
    """One organ over all cases.

    Attributes:
        organ: name of the organ.
        n: cases in which prediction or reference has the organ.
        absent: cases in which neither has it; they enter no figure.
        one_sided: cases in which only one of both has it; they count with Dice 0 and have no HD95.
        metrics: summary of each of `METRICS`.
        volume_limits_ml: limits of agreement of the volume, bias -/+ 1.96 sd (Bland and Altman, Lancet 327, 1986); the
            bias is the mean of `volume_error_ml`. None for fewer than two cases.
    """

    organ: str
    n: int
    absent: int
    one_sided: int
    metrics: dict[str, MetricSummary]
    volume_limits_ml: tuple[float, float] | None


def summarise_organ(organ: str, scores: Sequence[OrganScore], seed: int) -> OrganSummary:
    """Summarise an organ's scores over cases; `seed` is that of the bootstrap."""
    present = [score for score in scores if not score.absent]
    metrics = {metric: _summarise([getattr(score, metric) for score in present], seed) for metric in METRICS}
    error = metrics["volume_error_ml"]
    limits = None if error.sd is None else (error.mean - 1.96 * error.sd, error.mean + 1.96 * error.sd)
    return OrganSummary(
        organ=organ,
        n=len(present),
        absent=len(scores) - len(present),
        one_sided=sum(score.one_sided for score in present),
        metrics=metrics,
        volume_limits_ml=limits,
    )


def _summarise(values: Sequence[float | None], seed: int) -> MetricSummary:
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return MetricSummary(0, None, None, None, None)
    return MetricSummary(
        n=len(known),
        mean=float(known.mean()),
        median=float(np.median(known)),
        sd=float(known.std(ddof=1)) if len(known) > 1 else None,
        interval=mean_interval(known[:, None], seed),
    )
