"""Labels of voxels, and how sure the network is of them, taken while probabilities pass by."""

import json
import math

import torch
from monai.data import MetaTensor
from torch import Tensor

from medfm3d.inference.score_reduction import KeepLabels

CONFIDENCE_KEY = "organ_confidence"
# Smaller probabilities of an organ, summed over a scan, tell of the scan's size and not of the organ.
NOTEWORTHY = 0.01
ENTROPY_STEPS = 255


class KeepAssessedLabels(KeepLabels):
    """The most probable class of each voxel, with the soft Dice of each organ and, if asked for, each voxel's entropy.

    Soft Dice, 2 sum(p m) / (sum p + sum m), is close to the expected Dice of a mask if the probabilities are true
    (soft Dice confidence of Borges et al., arXiv 2402.10665). Entropy is that of a voxel's probabilities as a part of
    the largest, log C, in whole 255ths: the second channel.

    Args:
        classes: number of the network's channels, background first.
        entropy: whether entropy is kept too.
    """

    scale_free = False  # labels are, but not how probable they are

    def __init__(self, classes: int, entropy: bool = False) -> None:
        super().__init__(classes)
        self.entropy = entropy
        # Of each class: voxels of the mask, sum of its probability in the mask, and everywhere.
        self._sums = torch.zeros(3, classes, dtype=torch.float64)

    def channels(self, logit_channels: int) -> int:
        """Return 1, or 2 with entropy."""
        return 2 if self.entropy else 1

    def reduce(self, scores: Tensor, resampled: bool) -> Tensor:
        """Return labels, and entropy if asked for, and add up what goes into soft Dice."""
        probabilities = scores if resampled else self.before_resampling(scores)
        largest, labels = probabilities.max(dim=0)
        flat, classes = labels.flatten(), len(probabilities)
        noteworthy = torch.where(probabilities >= NOTEWORTHY, probabilities, 0).flatten(1).sum(dim=1)
        self._sums += torch.stack(
            [
                torch.bincount(flat, minlength=classes).double().cpu(),
                torch.bincount(flat, largest.flatten().double(), minlength=classes).cpu(),
                noteworthy.double().cpu(),
            ]
        )
        kept = [labels.to(self.dtype)]
        if self.entropy:
            entropy = torch.special.entr(probabilities).sum(dim=0) / math.log(classes)
            kept.append((entropy.clamp(0, 1) * ENTROPY_STEPS).round().to(self.dtype))
        return torch.stack(kept)

    def notes(self) -> dict[str, str]:
        """Return the soft Dice of each organ's mask as a list, background left out; 0 for an organ without a mask."""
        voxels, inside, everywhere = self._sums[:, 1:]
        soft_dice = torch.where(voxels > 0, 2 * inside / (everywhere + voxels).clamp(min=1), 0.0)
        return {CONFIDENCE_KEY: json.dumps(soft_dice.tolist())}


def read_soft_dice(mask: MetaTensor) -> list[float]:
    """Return the soft Dice of each organ that `KeepAssessedLabels` noted with a mask.

    Raises:
        ValueError: if it noted none.
    """
    noted = mask.meta.get(CONFIDENCE_KEY) if isinstance(mask, MetaTensor) else None
    if not isinstance(noted, str):
        raise ValueError(
            "the mask says nothing of its soft Dice: put a StreamingInferer with reduction='assessed-labels' or "
            "ReduceToInputGridd in front"
        )
    return json.loads(noted)
