"""Into how many pieces an organ falls."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cc3d
import numpy as np

from medfm3d.priors.organ_scores import OrganScores
from medfm3d.priors.prior import Prior, Surprise
from medfm3d.volumes import Volume, mask_box

LARGEST_COUNT = 10  # larger numbers of pieces are counted as this one
# Almost every organ is one piece, which a handful of outlines cannot prove: before any is seen, one piece has this
# weight in cases and all other numbers together have one case.
ONE_PIECE_WEIGHT = 9.0
# An organ that is one piece in all K support cases has more with probability 1 / (10 + K), below this for any K; one
# that is two pieces in the only support case has more than one with probability 0.18.
IMPROBABLE = 0.1


class ComponentsPrior(Prior):
    """Number of 26-connected components of an organ's mask.

    A categorical distribution over 1 ... 10 pieces with a Dirichlet prior (additive smoothing). Single voxels count as
    pieces: a mask with crumbs is what this prior is there to notice. The support set's own crumbs are learnt as they
    are.
    """

    name = "components"
    surprising = IMPROBABLE  # what is beyond the tolerated number
    organs_: dict[str, list[float]]

    def fit(
        self, labels: Sequence[Volume], organs: Mapping[str, int], images: Sequence[Volume] | None = None
    ) -> "ComponentsPrior":
        """Learn from label maps."""
        self.organs_ = {}
        for organ, number in organs.items():
            weights = np.full(LARGEST_COUNT, 1.0 / (LARGEST_COUNT - 1))
            weights[0] = ONE_PIECE_WEIGHT
            for label in labels:
                count = count_components(label.array == number)
                if count:
                    weights[min(count, LARGEST_COUNT) - 1] += 1
            self.organs_[organ] = (weights / weights.sum()).tolist()
        return self

    def surprise(self, label: Volume, organs: Mapping[str, int], image: Volume | None = None) -> list[Surprise]:
        """Return one statement for each organ that has a mask: how probable so many pieces, or more, are."""
        self._check_fitted()
        found = []
        for organ, number in organs.items():
            count = count_components(label.array == number)
            if organ not in self.organs_ or not count:
                continue
            p_value = float(sum(self.organs_[organ][min(count, LARGEST_COUNT) - 1 :]))
            pieces = "1 piece" if count == 1 else f"{count} pieces"
            text = f"{organ} falls into {pieces}, expected {self.expected_count(organ)}"
            found.append(Surprise(organ, self.name, text, min(1.0, p_value)))
        return found

    def log_prior(self, organ: str, value: float) -> float:
        """Return the log probability of a number of pieces; minus infinity at 0."""
        learnt = self._learnt(organ)
        return math.log(learnt[min(int(value), LARGEST_COUNT) - 1]) if value >= 1 else -math.inf

    def logit_offsets(self, scores: OrganScores) -> dict[str, np.ndarray]:
        """Return, on the pieces beyond the tolerated number, how much less probable so many are than that number.

        The largest pieces are let alone.
        """
        self._check_fitted()
        offsets = {}
        for organ in scores.organs:
            tolerated = self.tolerated_count(organ) if organ in self.organs_ else None
            if tolerated is None:
                continue
            pieces, count = cc3d.connected_components(
                np.ascontiguousarray(scores.mask(organ)), connectivity=26, return_N=True
            )
            if count <= tolerated:
                continue
            sizes = cc3d.statistics(pieces)["voxel_counts"][1:]
            beyond = 1 + np.argsort(-sizes.astype(np.int64), kind="stable")[tolerated:]
            log_odds = self.log_prior(organ, count) - self.log_prior(organ, tolerated)
            offsets[organ] = np.where(np.isin(pieces, beyond), np.float32(min(0.0, log_odds)), np.float32(0))
        return offsets

    def expected_count(self, organ: str) -> int:
        """Return the most probable number of pieces."""
        return int(np.argmax(self._learnt(organ))) + 1

    def tolerated_count(self, organ: str) -> int | None:
        """Return the least number of pieces of which more are improbable (under `IMPROBABLE`).

        None if even the largest number that is counted, which stands for all beyond it, is not improbable.
        """
        more = 1 - np.cumsum(self._learnt(organ))
        count = int(np.argmax(more < IMPROBABLE)) + 1
        return count if count < LARGEST_COUNT else None

    def to_json(self) -> dict[str, Any]:
        """Return the probabilities of 1, 2, ... pieces of each organ."""
        return {organ: list(probabilities) for organ, probabilities in self.organs_.items()}

    @classmethod
    def from_json(cls, learnt: Mapping[str, Any]) -> "ComponentsPrior":
        """Return a fitted prior."""
        prior = cls()
        prior.organs_ = {organ: [float(p) for p in probabilities] for organ, probabilities in learnt.items()}
        return prior


def count_components(mask: np.ndarray) -> int:
    """Return the number of 26-connected components of a mask."""
    if not mask.any():
        return 0
    mask = mask[mask_box(mask)]  # labels of all voxels of a large scan would take four times the mask's memory
    return int(cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26, return_N=True)[1])
