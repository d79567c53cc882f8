"""The contract that every organ prior fulfils."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medfm3d.priors.organ_scores import OrganScores
from medfm3d.volumes import Volume


@dataclass(frozen=True)
class Surprise:
    """How unexpected one organ of a mask is to one prior.

    Attributes:
        organ: the organ's name.
        prior: the prior's name.
        text: what was seen and what was expected, as a sentence.
        p_value: probability of something at least as unusual, were the mask like those of the support set.
        z: the same as a signed number of standard deviations, where the prior has a scale.
    """

    organ: str
    prior: str
    text: str
    p_value: float
    z: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the surprise as plain JSON values."""
        return asdict(self)


class NotFittedError(ValueError):
    """A prior is asked before it was fitted."""


class Prior(ABC):
    """What anatomy says of one property of organs.

    As in scikit-learn, `fit` learns from label maps and returns the prior itself, and what was learnt ends in an
    underscore. A prior speaks of a mask and never changes it: what it adds to logits, where it is asked to, is for the
    caller to apply and to report.

    Attributes:
        name: by which it is stored and named in remarks.
        needs_image: True if it cannot judge a mask without the scan.
        surprising: p-value under which a remark is worth a reader's time.
        organs_: what was learnt, by organ.
    """

    name: str
    needs_image: bool = False
    surprising: float = 0.01
    organs_: dict[str, Any]

    @abstractmethod
    def fit(
        self, labels: Sequence[Volume], organs: Mapping[str, int], images: Sequence[Volume] | None = None
    ) -> "Prior":
        """Learn from the support set.

        Args:
            labels: label maps, in which every organ is outlined.
            organs: ids of the organs in them.
            images: the scans, with intensities as stored, where they are at hand.

        Raises:
            ValueError: if this prior needs images and there are none.
        """

    @abstractmethod
    def surprise(self, label: Volume, organs: Mapping[str, int], image: Volume | None = None) -> list[Surprise]:
        """Return one statement for each organ that this prior knows.

        Args:
            label: the mask.
            organs: ids of the organs in it.
            image: its scan, with intensities as stored.

        Raises:
            NotFittedError: if the prior was not fitted.
            ValueError: if this prior needs the image and there is none.
        """

    @abstractmethod
    def log_prior(self, organ: str, value: float) -> float:
        """Return the natural logarithm of the density, or probability, of a value of the prior's property."""

    @abstractmethod
    def logit_offsets(self, scores: OrganScores) -> dict[str, np.ndarray]:
        """Return the log-prior as what to add to each organ's logits, each broadcasting to (I, J, K), never NaN.

        Organs of which the prior has nothing to say are left out.

        Raises:
            NotFittedError: if the prior was not fitted.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return what was learnt as plain JSON values."""

    @classmethod
    @abstractmethod
    def from_json(cls, learnt: Mapping[str, Any]) -> "Prior":
        """Return a fitted prior from what `to_json` gave."""

    def _check_fitted(self) -> None:
        if not hasattr(self, "organs_"):
            raise NotFittedError(f"the {self.name} prior is not fitted: call fit with the support set's label maps")

    def _learnt(self, organ: str) -> Any:
        self._check_fitted()
        if organ not in self.organs_:
            raise NotFittedError(f"the {self.name} prior was not fitted to {organ!r}, but to {', '.join(self.organs_)}")
        return self.organs_[organ]
