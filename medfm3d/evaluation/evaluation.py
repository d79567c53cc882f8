"""The scores of a folder of masks."""

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from medfm3d.cohorts import Case, Cohort, CohortError
from medfm3d.evaluation.intervals import mean_interval, mean_of_columns
from medfm3d.evaluation.pairing import list_cases, list_predictions, pair_cases
from medfm3d.evaluation.scores import OrganScore, score_case
from medfm3d.evaluation.summary import OrganSummary, summarise_organ
from medfm3d.volumes import read_label, write_json
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

    def save(self, folder: str | Path) -> Path:
        """Write `scores.csv`, as `to_csv`, and `evaluation.json`, as `to_json`, into a folder; returns it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.to_csv(folder / "scores.csv")
        write_json(self.to_json(), folder / "evaluation.json")
        return folder

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
    pairs = [
        (case, prediction_paths[case], label_paths[case], organs if annotated is None else annotated.get(case, organs))
        for case in cases
    ]
    return Evaluation(
        _score(pairs, organs, tolerance_mm, progress), tuple(organs), tolerance_mm, seed, tuple(unpredicted)
    )


def evaluate_cases(
    cases: Sequence[Case],
    predictions: Sequence[str | Path],
    organs: Mapping[str, int],
    *,
    tolerance_mm: float = 2.0,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Score one mask for each labelled case of a cohort; an organ that was not outlined in a case is not scored there.

    Args:
        cases: labelled cases, whose outlined organs go by the names of `organs` (see `Cohort.with_organs`).
        predictions: their masks, in the same order.
        organs: name and id of each organ.
        tolerance_mm: tolerance of the surface Dice.
        seed: seed of the bootstrap.
        progress: whether to show a bar.

    Raises:
        VolumeError: if a file is unusable or on another grid than its partner.
        ValueError: if there are not as many masks as cases, or the tolerance is negative.
    """
    pairs = [
        (case.name, Path(prediction), case.label, [organ for organ in organs if case.outlines(organ)])
        for case, prediction in zip(cases, predictions, strict=True)
    ]
    scores = _score(pairs, organs, tolerance_mm, progress)
    return Evaluation(scores, tuple(organs), tolerance_mm, seed)


def cases_to_score(cohort: Cohort, organs: Mapping[str, int], *, without: Iterable[str] = ()) -> list[Case]:
    """Return the cases in which an organ was outlined, but for those of these names, by the names of `organs`.

    Raises:
        CohortError: if there is none, or the cohort's own names and label values say that an organ is not that one.
    """
    left = cohort.with_organs(organs).without(without)
    if not (found := [case for case in left if any(map(case.outlines, organs))]):
        raise CohortError(
            f"cohort {cohort.name} has no case with {' or '.join(organs)} outlined beside the support set: "
            "name a cohort with other outlined scans"
        )
    return found


def _score(
    pairs: Iterable[tuple[str, Path, Path, Collection[str]]],
    organs: Mapping[str, int],
    tolerance_mm: float,
    progress: bool,
) -> tuple[OrganScore, ...]:
    """Scores of cases: name, mask, label map and organs outlined in it."""
    scores: list[OrganScore] = []
    for case, prediction, label, outlined in track(
        list(pairs), "evaluating", disable=not progress, console=Console(stderr=True)
    ):
        scored = {organ: number for organ, number in organs.items() if organ in outlined}
        scores += score_case(read_label(prediction), read_label(label), scored, tolerance_mm=tolerance_mm, case=case)
    return tuple(scores)
