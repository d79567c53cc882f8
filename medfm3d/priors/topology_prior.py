"""How many tunnels and cavities an organ has."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import cc3d
import numpy as np
from scipy import stats
from scipy.ndimage import find_objects
from skimage.measure import euler_number

from medfm3d.priors.organ_scores import OrganScores
from medfm3d.priors.prior import Prior, Surprise
from medfm3d.volumes import Volume

# Counts of tunnels and cavities of hand-drawn organs scatter by their kind of outlining; their logarithms (of the count
# plus 1) are expected to spread by this, with the weight of a few cases.
EXPECTED_SPREAD = 0.5
SPREAD_WEIGHT = 4.0


class Topology(NamedTuple):
    """Betti numbers of a mask in 26-connectivity.

    Attributes:
        components: separate pieces.
        tunnels: ways through it, as through a ring.
        cavities: closed rooms of background within it.
    """

    components: int
    tunnels: int
    cavities: int

    @property
    def euler(self) -> int:
        """The Euler characteristic."""
        return self.components - self.tunnels + self.cavities


@dataclass(frozen=True)
class CountDistribution:
    """Student t of the logarithm of a count plus 1."""

    location: float
    scale: float
    degrees_of_freedom: float

    def probability_of_more(self, count: int) -> float:
        """Return the probability of at least that many."""
        if count <= 0:
            return 1.0
        # The count stands for the interval half a count below and above it.
        return float(stats.t.sf(math.log(count + 0.5), self.degrees_of_freedom, self.location, self.scale))


class TopologyPrior(Prior):
    """Tunnels and cavities of an organ's mask, counted by its Euler characteristic.

    A predictive distribution for each count, learnt from the support set: many tunnels or cavities are what a mask
    shows that is frayed or has holes. Pieces are `ComponentsPrior`'s.
    """

    name = "topology"
    organs_: dict[str, dict[str, CountDistribution]]

    def fit(
        self, labels: Sequence[Volume], organs: Mapping[str, int], images: Sequence[Volume] | None = None
    ) -> "TopologyPrior":
        """Learn from label maps."""
        self.organs_ = {}
        for organ, number in organs.items():
            found = [topology(label.array == number) for label in labels if (label.array == number).any()]
            self.organs_[organ] = {
                kind: _distribution([getattr(one, kind) for one in found]) for kind in ("tunnels", "cavities")
            }
        return self

    def surprise(self, label: Volume, organs: Mapping[str, int], image: Volume | None = None) -> list[Surprise]:
        """Return one statement for each organ that has a mask: how probable so many, or more, are."""
        self._check_fitted()
        found = []
        for organ, number in organs.items():
            mask = label.array == number
            if organ not in self.organs_ or not mask.any():
                continue
            seen = topology(mask)
            p_values = {
                kind: self.organs_[organ][kind].probability_of_more(getattr(seen, kind))
                for kind in ("tunnels", "cavities")
            }
            kind = min(p_values, key=p_values.__getitem__)
            usual = math.expm1(self.organs_[organ][kind].location)
            text = f"{organ} has {seen.tunnels} tunnels and {seen.cavities} cavities, usual are {usual:.0f} {kind}"
            # The less probable of two counts: twice as probable by chance as either.
            found.append(Surprise(organ, self.name, text, min(1.0, 2 * p_values[kind])))
        return found

    def log_prior(self, organ: str, value: float) -> float:
        """Return the log probability of a number of cavities."""
        learnt = self._learnt(organ)["cavities"]
        if value < 0:
            return -math.inf
        probability = learnt.probability_of_more(int(value)) - learnt.probability_of_more(int(value) + 1)
        return math.log(max(probability, 1e-12))

    def logit_offsets(self, scores: OrganScores) -> dict[str, np.ndarray]:
        """Return what raises an organ's logits in its cavities: how much less probable so many are than none.

        Only cavities have voxels to fill; tunnels have none of their own, so the prior is silent on them.
        """
        self._check_fitted()
        offsets = {}
        for organ in scores.organs:
            if organ not in self.organs_:
                continue
            mask = scores.mask(organ)
            rooms = cavities(mask) & (scores.winners == 0)
            if not rooms.any():
                continue
            count = topology(mask).cavities
            log_odds = self.log_prior(organ, 0) - self.log_prior(organ, count)
            if log_odds > 0:
                offsets[organ] = np.where(rooms, np.float32(log_odds), np.float32(0))
        return offsets

    def to_json(self) -> dict[str, Any]:
        """Return the distributions of each organ."""
        return {organ: {kind: asdict(one) for kind, one in kinds.items()} for organ, kinds in self.organs_.items()}

    @classmethod
    def from_json(cls, learnt: Mapping[str, Any]) -> "TopologyPrior":
        """Return a fitted prior."""
        prior = cls()
        prior.organs_ = {
            organ: {kind: CountDistribution(**kinds[kind]) for kind in ("tunnels", "cavities")}
            for organ, kinds in learnt.items()
        }
        return prior


def topology(mask: np.ndarray) -> Topology:
    """Return the Betti numbers of a mask (I, J, K): pieces touch by faces, edges or corners, background by faces."""
    places = find_objects(mask.astype(np.uint8))
    if not places:
        return Topology(0, 0, 0)
    inner = np.ascontiguousarray(np.pad(mask[places[0]], 1))
    components = int(cc3d.connected_components(inner, connectivity=26, return_N=True)[1])
    rooms = int(cc3d.connected_components(~inner, connectivity=6, return_N=True)[1]) - 1
    return Topology(components, components + rooms - int(euler_number(inner, connectivity=3)), rooms)


def cavities(mask: np.ndarray) -> np.ndarray:
    """Return the closed rooms of background within a mask, (I, J, K) bool."""
    found = np.zeros(mask.shape, dtype=bool)
    places = find_objects(mask.astype(np.uint8))
    if places:
        inner = np.pad(mask[places[0]], 1)
        rooms = cc3d.connected_components(np.ascontiguousarray(~inner), connectivity=6)
        found[places[0]] = ((rooms > 0) & (rooms != rooms[0, 0, 0]))[1:-1, 1:-1, 1:-1]
    return found


def _distribution(counts: Sequence[int]) -> CountDistribution:
    """Predictive distribution of one more count: unknown mean and spread, as in `VolumePrior`.

    No tunnels at all is what is expected before any case is seen, with the weight of one.
    """
    logs = np.log1p(np.array(counts, dtype=float))
    weight = 1 + len(logs)
    mean = logs.sum() / weight
    squares = ((logs - mean) ** 2).sum() + mean**2
    degrees = SPREAD_WEIGHT + len(logs)
    scale = math.sqrt((SPREAD_WEIGHT * EXPECTED_SPREAD**2 + squares) / degrees * (1 + 1 / weight))
    return CountDistribution(float(mean), scale, float(degrees))
