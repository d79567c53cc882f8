"""What is kept of each voxel's scores once they are final."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class ScoreReduction(ABC):
    """From the network's scores (C, ...) to what is kept of them.

    Attributes:
        dtype: type of what is kept.
        scale_free: whether a voxel's scores and the same scores times any positive number are reduced to the same,
            where they are not resampled.
    """

    dtype: torch.dtype
    scale_free = False

    def before_resampling(self, logits: Tensor) -> Tensor:
        """Return what may be interpolated between voxels: logits (C, ...) as they are, unless a reduction says more."""
        return logits

    def notes(self) -> dict[str, str]:
        """Return metadata for the result, of all that was reduced so far: none, unless a reduction says more."""
        return {}

    @abstractmethod
    def channels(self, logit_channels: int) -> int:
        """Return how many channels are kept."""

    @abstractmethod
    def reduce(self, scores: Tensor, resampled: bool) -> Tensor:
        """Return what is kept, (channels, ...), of logits, or of resampled `before_resampling` scores, (C, ...)."""


class KeepLogits(ScoreReduction):
    """Logits as MONAI's sliding window returns them, in float32."""

    dtype = torch.float32

    def channels(self, logit_channels: int) -> int:
        """Return the number of classes."""
        return logit_channels

    def reduce(self, scores: Tensor, resampled: bool) -> Tensor:
        """Return the scores."""
        return scores


class KeepLabels(ScoreReduction):
    """The most probable class of each voxel, one channel; of equally probable ones the first."""

    scale_free = True

    def __init__(self, classes: int = 256) -> None:
        self.dtype = torch.uint8 if classes <= 256 else torch.int16

    def before_resampling(self, logits: Tensor) -> Tensor:
        """Return probabilities: a logit between two voxels is no logit of anything."""
        return torch.softmax(logits.float(), dim=0)

    def channels(self, logit_channels: int) -> int:
        """Return 1."""
        return 1

    def reduce(self, scores: Tensor, resampled: bool) -> Tensor:
        """Return the index of the largest score."""
        # Half the time of argmax over the first axis, on a CPU; it too returns the first of equal ones.
        return scores.max(dim=0).indices.to(self.dtype)[None]


class KeepProbabilities(ScoreReduction):
    """Probabilities of all classes, as whole 255ths: a quarter of the memory of float32, exact to 0.002.

    Args:
        multilabel: classes that may overlap, each with a sigmoid of its own, rather than a softmax over all.
    """

    dtype = torch.uint8

    def __init__(self, multilabel: bool = False) -> None:
        self.multilabel = multilabel

    def before_resampling(self, logits: Tensor) -> Tensor:
        """Return probabilities."""
        return torch.sigmoid(logits.float()) if self.multilabel else torch.softmax(logits.float(), dim=0)

    def channels(self, logit_channels: int) -> int:
        """Return the number of classes."""
        return logit_channels

    def reduce(self, scores: Tensor, resampled: bool) -> Tensor:
        """Return round(255 p)."""
        probabilities = scores if resampled else self.before_resampling(scores)
        return (probabilities * 255).round_().to(torch.uint8)


class KeepOverlappingLabels(ScoreReduction):
    """For classes that may overlap: 1 where a class has a sigmoid above one half, a channel each."""

    dtype = torch.uint8
    scale_free = True

    def before_resampling(self, logits: Tensor) -> Tensor:
        """Return probabilities, centred on one half so that the sign decides as it does of logits."""
        return torch.sigmoid(logits.float()) - 0.5

    def channels(self, logit_channels: int) -> int:
        """Return the number of classes."""
        return logit_channels

    def reduce(self, scores: Tensor, resampled: bool) -> Tensor:
        """Return where scores are positive."""
        return (scores > 0).to(torch.uint8)
