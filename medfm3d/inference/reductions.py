"""Reductions by name."""

from medfm3d.inference.assessed_labels import KeepAssessedLabels
from medfm3d.inference.score_reduction import (
    KeepLabels,
    KeepLogits,
    KeepOverlappingLabels,
    KeepProbabilities,
    ScoreReduction,
)

REDUCTIONS = (
    "logits",
    "labels",
    "assessed-labels",
    "assessed-labels-entropy",
    "probabilities",
    "multilabel-probabilities",
    "multilabel-labels",
)


def create_reduction(name: str, classes: int) -> ScoreReduction:
    """Return the reduction of that name for a network with that many output channels.

    Raises:
        ValueError: if there is none of that name.
    """
    if name == "logits":
        return KeepLogits()
    if name == "labels":
        return KeepLabels(classes)
    if name in ("assessed-labels", "assessed-labels-entropy"):
        return KeepAssessedLabels(classes, entropy=name.endswith("entropy"))
    if name in ("probabilities", "multilabel-probabilities"):
        return KeepProbabilities(multilabel=name.startswith("multilabel"))
    if name == "multilabel-labels":
        return KeepOverlappingLabels()
    raise ValueError(f"unknown reduction {name!r}: choose one of {', '.join(REDUCTIONS)}")
