"""The scores of a folder of masks."""

import csv
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from medfm3d.evaluation.intervals import mean_interval, mean_of_columns
from medfm3d.evaluation.pairing import list_cases, list_predictions, pair_cases
from medfm3d.evaluation.scores import OrganScore, score_case
from medfm3d.evaluation.summary import OrganSummary, summarise_organ
from medfm3d.volumes import read_label
from medfm3d.volumes.whole_file import whole_file


@dataclass(frozen=True)
class Evaluation:
    """Scores of every case and organ, and what they amount to.

    Attributes:
        scores: one per case and organ, in the order of the cases.
        organs: names of the organs that were to be scored.
        tolerance_mm: tolerance of the surface Dice.
        seed: seed of the bootstrap.
        unpredicted: cases with a label but no prediction; they enter no figure.
    """

    scores: tuple[OrganScore, ...]
    organs: tuple[str, ...]
    tolerance_mm: float
    seed: int
    unpredicted: tuple[str, ...] = ()

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the scored cases."""
        return tuple(dict.fromkeys(score.case for score in self.scores))

    def summary(self) -> dict[str, OrganSummary]:
        """Return what the scores of each organ amount to."""
        return {
            organ: summarise_organ(organ, [score for score in self.scores if score.organ == organ], self.seed)
            for organ in self.organs
        }

    @property
    def mean_dice(self) -> float | None:
        """Mean over organs of each organ's mean Dice; None where no organ was there to score."""
        table = self._dice_table()
        return None if np.isnan(table).all() else mean_of_columns(table)

    def mean_dice_interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of `mean_dice`, with whole cases resampled; None as in `mean_interval`."""
        return mean_interval(self._dice_table(), self.seed)

    def case_dice(self) -> dict[str, float | None]:
        """Return each case's mean Dice over the organs that are there; None where there is none."""
        rows = zip(self.cases, self._dice_table(), strict=True)
        return {case: None if np.isnan(row).all() else float(np.nanmean(row)) for case, row in rows}

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain lists and dictionaries."""
        return {
            "n": len(self.cases),
            "tolerance_mm": self.tolerance_mm,
            "seed": self.seed,
            "mean_dice": self.mean_dice,
            "mean_dice_interval": self.mean_dice_interval(),
            "organs": {organ: asdict(summary) for organ, summary in self.summary().items()},
            "unpredicted": list(self.unpredicted),
            "scores": [asdict(score) for score in self.scores],
        }

    def to_csv(self, path: str | Path) -> Path:
        """Write one line per case and organ; what has no value stays empty."""
        path = Path(path)
        with whole_file(path) as whole, whole.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(OrganScore)])
            writer.writeheader()
            writer.writerows(asdict(score) for score in self.scores)
        return path

    def _dice_table(self) -> np.ndarray:
        """Dice, (cases, organs), NaN where there is none."""
        rows = {case: row for row, case in enumerate(self.cases)}
        columns = {organ: column for column, organ in enumerate(self.organs)}
        table = np.full((len(rows), len(columns)), np.nan)
        for score in self.scores:
            if score.dice is not None:
                table[rows[score.case], columns[score.organ]] = score.dice
        return table


def evaluate_folder(
    predictions: str | Path,
    labels: str | Path,
    organs: Mapping[str, int],
    *,
    tolerance_mm: float = 2.0,
    seed: int = 0,
    annotated: Mapping[str, Collection[str]] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score the masks of a folder against the label maps of the same name in another.

    Labels without a mask are named in the result and otherwise passed over: more may be labelled than was predicted.

    Args:
        predictions: folder of masks.
        labels: folder of reference label maps.
        organs: name and id of each organ.
        tolerance_mm: tolerance of the surface Dice.
        seed: seed of the bootstrap.
        annotated: organs that were outlined in a case, by its name; the others are not scored there, since no outline
            does not mean no organ. A case that is not named has all of them.
        progress: whether to show a bar.

    Raises:
        VolumeError: if a mask has no label, or a file is unusable or on another grid than its partner.
        ValueError: if there is no organ, or the tolerance is negative.
    """
    if not organs:
        raise ValueError("no organ to score: name at least one and its id")
    prediction_paths, label_paths = list_predictions(predictions), list_cases(labels)
    cases, unpredicted = pair_cases(prediction_paths, label_paths)
    scores: list[OrganScore] = []
    for case in track(cases, description="evaluating", disable=not progress):
        outlined = organs if annotated is None or case not in annotated else annotated[case]
        scored = {organ: number for organ, number in organs.items() if organ in outlined}
        prediction, label = read_label(prediction_paths[case]), read_label(label_paths[case])
        scores += score_case(prediction, label, scored, tolerance_mm=tolerance_mm, case=case)
    return Evaluation(tuple(scores), tuple(organs), tolerance_mm, seed, tuple(unpredicted))
