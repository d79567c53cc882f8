"""The scores of a run's masks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewshot_benchmark.selection import Selection
from medfm3d.evaluation import OrganScore, list_predictions, score_case
from medfm3d.volumes import read_label, reorient

TOLERANCE_MM = 2.0  # of the surface Dice, as in `medfm3d evaluate`


def score_masks(masks: Path, selection: Selection) -> tuple[list[OrganScore], list[str]]:
    """Score every organ that is outlined in a scored case.

    A case without a mask is scored as an empty one: Dice 0 for every organ that it shows. Masks and labels are brought
    to RAS first, as some peers write in that orientation whatever the scan's.

    Args:
        masks: folder of masks, named as the cases, with ids as in the label files.
        selection: the run's cases and organs.

    Returns:
        The scores, and the names of the cases that had no mask.

    Raises:
        VolumeError: if a mask is not on its label's grid.
    """
    found = list_predictions(masks) if any(masks.glob("*")) else {}
    scores: list[OrganScore] = []
    missing: list[str] = []
    for case in selection.scored:
        organs = {organ: value for organ, value in selection.organs.items() if case.outlines(organ)}
        label = reorient(read_label(case.label))
        if case.name in found:
            mask = reorient(read_label(found[case.name]))
        else:
            missing.append(case.name)
            mask = replace(label, array=np.zeros_like(label.array))
        scores += score_case(mask, label, organs, tolerance_mm=TOLERANCE_MM, case=case.name)
    return scores, missing


def mean_dice(scores: Sequence[OrganScore]) -> float | None:
    """Return the mean Dice of all scores that have one; None if none has."""
    known = [score.dice for score in scores if score.dice is not None]
    return sum(known) / len(known) if known else None
