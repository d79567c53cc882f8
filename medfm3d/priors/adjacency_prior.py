"""Which organs touch."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medfm3d.priors.organ_scores import OrganScores
from medfm3d.priors.prior import Prior, Surprise
from medfm3d.volumes import Volume, mask_box

# Of most pairs of organs all cases show the same: they touch, or they do not. A Beta distribution with both parameters
# at this expects that: after K equal cases the other thing has probability 0.05 / (0.1 + K), 0.01 at K = 5.
BELIEF = 0.05
TOUCHING_SHARE = 0.01  # of the smaller organ's surface that two organs share at least if they touch


class AdjacencyPrior(Prior):
    """For each pair of organs, how probable it is that they touch.

    Organs touch if they share `TOUCHING_SHARE` of the surface of the smaller one, face to face: a few voxels in contact
    are chance. Each pair has a Beta distribution.
    """

    name = "adjacency"
    organs_: dict[str, dict[str, float]]  # of each organ, the probability that it touches each other one

    def fit(
        self, labels: Sequence[Volume], organs: Mapping[str, int], images: Sequence[Volume] | None = None
    ) -> "AdjacencyPrior":
        """Learn from label maps; a pair is learnt from those that show both."""
        names = list(organs)
        touched, seen = np.zeros((2, len(names), len(names)))
        for label in labels:
            shares = touching_shares(label, organs)
            both = ~np.isnan(shares)
            seen += both
            touched += both & (np.nan_to_num(shares) >= TOUCHING_SHARE)
        probability = (BELIEF + touched) / (2 * BELIEF + seen)
        self.organs_ = {
            organ: {other: float(probability[i, j]) for j, other in enumerate(names) if other != organ and seen[i, j]}
            for i, organ in enumerate(names)
        }
        return self

    def surprise(self, label: Volume, organs: Mapping[str, int], image: Volume | None = None) -> list[Surprise]:
        """Return, for each organ with a mask beside others, the most surprising of its contacts or gaps."""
        self._check_fitted()
        names = list(organs)
        shares = touching_shares(label, organs)
        found = []
        for i, organ in enumerate(names):
            said = []
            for j, other in enumerate(names):
                if np.isnan(shares[i, j]) or other not in self.organs_.get(organ, {}):
                    continue
                probability = self.organs_[organ][other]
                touches = bool(shares[i, j] >= TOUCHING_SHARE)
                p_value = probability if touches else 1 - probability
                text = f"{organ} {'touches' if touches else 'does not touch'} {other}"
                expected = f"expected of {probability:.0%} of cases"
                said.append(Surprise(organ, self.name, f"{text}; that they touch is {expected}", p_value))
            if said:
                found.append(min(said, key=lambda surprise: surprise.p_value))
        return found

    def log_prior(self, organ: str, value: float) -> float:
        """Return the log probability of a number of organs that an organ touches."""
        counts = np.ones(1)
        for probability in self._learnt(organ).values():
            counts = np.convolve(counts, [1 - probability, probability])
        return math.log(counts[int(value)]) if 0 <= value < len(counts) else -math.inf

    def logit_offsets(self, scores: OrganScores) -> dict[str, np.ndarray]:
        """Return what lowers an organ's logits beside voxels that are probably an organ it does not touch.

        At each voxel it is the sum over the other organs of log P(touch), where that is improbable, times the greatest
        probability of the other organ among the six neighbours: one step of mean-field inference in a Markov random
        field over voxels.
        """
        self._check_fitted()
        strangers = {
            organ: [
                (other, p) for other, p in self.organs_.get(organ, {}).items() if p < 0.5 and other in scores.organs
            ]
            for organ in scores.organs
        }
        beside = {
            other: _greatest_neighbour(scores.probabilities[scores.channel(other)])
            for other in {other for pairs in strangers.values() for other, _ in pairs}
        }
        return {
            organ: sum(np.float32(math.log(p / (1 - p))) * beside[other] for other, p in pairs)
            for organ, pairs in strangers.items()
            if pairs
        }

    def to_json(self) -> dict[str, Any]:
        """Return the probability that each organ touches each other one."""
        return {organ: dict(others) for organ, others in self.organs_.items()}

    @classmethod
    def from_json(cls, learnt: Mapping[str, Any]) -> "AdjacencyPrior":
        """Return a fitted prior."""
        prior = cls()
        prior.organs_ = {
            organ: {other: float(probability) for other, probability in others.items()}
            for organ, others in learnt.items()
        }
        return prior

    def never_touching(self) -> list[tuple[str, str]]:
        """Return the pairs of organs that the support set never shows in contact."""
        return [
            (organ, other)
            for organ, others in self.organs_.items()
            for other, p in others.items()
            if p < 0.5 and organ < other
        ]


def touching_shares(label: Volume, organs: Mapping[str, int]) -> np.ndarray:
    """Return the area of contact of each pair of organs as a share of the smaller one's surface.

    Args:
        label: label map.
        organs: id of each organ.

    Returns:
        (organs, organs) symmetric; NaN on the diagonal and where one of two organs has no mask.
    """
    count = 1 + len(organs)
    table = np.zeros(int(label.array.max(initial=0)) + 1, dtype=np.uint16)
    for index, number in enumerate(organs.values()):
        if number < len(table):
            table[number] = 1 + index
    channels = table[label.array]
    if len(organs) < 2 or not channels.any():
        return np.full((len(organs), len(organs)), np.nan)
    channels = np.pad(channels[mask_box(channels > 0)], 1)
    areas = np.zeros((count, count))
    spacing = np.array(label.spacing_mm)
    for axis in range(3):
        moved = np.moveaxis(channels, axis, 0)
        faces = np.zeros(count**2, dtype=np.int64)
        for one, next_one in itertools.pairwise(moved):  # slice by slice: pairs take four times the memory of labels
            faces += np.bincount((one.astype(np.int64) * count + next_one).ravel(), minlength=count**2)
        areas += float(spacing.prod() / spacing[axis]) * faces.reshape(count, count)
    areas += areas.T
    np.fill_diagonal(areas, 0)
    surface = areas.sum(axis=1)[1:]
    with np.errstate(invalid="ignore"):
        shares = areas[1:, 1:] / np.minimum(surface[:, None], surface[None])
    np.fill_diagonal(shares, np.nan)
    return shares


def _greatest_neighbour(values: np.ndarray) -> np.ndarray:
    """Greatest value among the six neighbours of each voxel, (I, J, K)."""
    padded = np.pad(values, 1)
    greatest = np.zeros_like(values)
    for axis in range(3):
        for start in (0, 2):
            place = [slice(1, -1)] * 3
            place[axis] = slice(start, start + values.shape[axis])
            np.maximum(greatest, padded[tuple(place)], out=greatest)
    return greatest
