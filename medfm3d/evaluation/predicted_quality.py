"""Predicted Dice beside true Dice: which cases to annotate next, and how far the prediction is to be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr

from medfm3d.evaluation.evaluation import Evaluation
from medfm3d.evaluation.pairing import case_name

FEWEST = 3  # pairs from which on a correlation is worth a figure


@dataclass(frozen=True)
class CaseQuality:
    """What is foretold of the masks of one case.

    Attributes:
        case: its name.
        predicted: Dice of each organ that was foretold.
        true: Dice of each of these that was measured too.
    """

    case: str
    predicted: dict[str, float]
    true: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean predicted Dice over organs, by which cases are ranked."""
        return float(np.mean(list(self.predicted.values())))


@dataclass(frozen=True)
class PredictionAgreement:
    """How predicted Dice agrees with true Dice over all masks that have both.

    Attributes:
        n: their number.
        pearson: linear correlation; None for fewer than three pairs or where one side is constant.
        spearman: rank correlation; None as before.
        mean_absolute_error: None without pairs.
    """

    n: int
    pearson: float | None
    spearman: float | None
    mean_absolute_error: float | None


def rank_cases(
    quality: Sequence[Mapping[str, Any]],
    cases: Sequence[str],
    organs: Sequence[str],
    evaluation: Evaluation | None = None,
) -> list[CaseQuality]:
    """Return cases in the order in which to annotate them: those with the lowest predicted Dice teach most.

    Args:
        quality: `case` and `predicted_dice` by organ each, as `medfm3d.inference.list_quality` gives.
        cases: names of the cases that have masks; others are passed over.
        organs: names of the organs that are asked about; others are passed over.
        evaluation: true Dice, where there is any.
    """
    true: dict[str, dict[str, float]] = {}
    for score in () if evaluation is None else evaluation.scores:
        if score.dice is not None:
            true.setdefault(score.case, {})[score.organ] = score.dice
    found = []
    for item in quality:
        case = case_name(item["case"])
        predicted = {organ: item["predicted_dice"][organ] for organ in organs if organ in item["predicted_dice"]}
        if case in cases and predicted:
            measured = {organ: dice for organ, dice in true.get(case, {}).items() if organ in predicted}
            found.append(CaseQuality(case, predicted, measured))
    return sorted(found, key=lambda one: one.mean)


def compare_prediction(ranked: Sequence[CaseQuality]) -> PredictionAgreement:
    """Return how the predicted Dice of cases agrees with the true one."""
    pairs = [(one.predicted[organ], dice) for one in ranked for organ, dice in one.true.items()]
    if not pairs:
        return PredictionAgreement(0, None, None, None)
    predicted, true = np.array(pairs).T
    pearson = spearman = None
    if len(pairs) >= FEWEST and np.ptp(predicted) > 0 and np.ptp(true) > 0:
        pearson, spearman = float(pearsonr(predicted, true)[0]), float(spearmanr(predicted, true)[0])
    return PredictionAgreement(len(pairs), pearson, spearman, float(np.abs(predicted - true).mean()))
