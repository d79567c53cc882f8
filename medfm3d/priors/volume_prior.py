"""How large an organ is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from medfm3d.priors.organ_scores import OrganScores
from medfm3d.priors.prior import Prior, Surprise
from medfm3d.priors.reference_volumes import reference_volume
from medfm3d.volumes import Volume

# Where nothing is published: the coefficient of variation of organs measured in this project's test cohorts lies
# between 0.15 (hippocampus) and 0.45 (oesophagus), so 0.3 is expected, with the weight of a few cases.
UNKNOWN_CV = 0.3
SPREAD_WEIGHT = 4.0  # degrees of freedom of that expectation, or of a table's spread
TABLE_WEIGHT = 1.0  # a table's mean counts as much as one support case: its population need not be the user's
CUT_FRACTION = 0.02  # of an organ's surface voxels on the faces of the scan, from which on it counts as cut
INTERVAL = 0.95
VOLUME_SHIFTS = np.linspace(-3, 3, 61)  # of an organ's logits that are tried


@dataclass(frozen=True)
class VolumeDistribution:
    """Predictive distribution of the logarithm of an organ's volume in mL: a shifted and scaled Student t.

    Attributes:
        location: mean of the logarithm.
        scale: its spread.
        degrees_of_freedom: few support cases give heavy tails.
        cases: support cases that it was learnt from.
        reference: the published table that entered, if any.
    """

    location: float
    scale: float
    degrees_of_freedom: float
    cases: int
    reference: str | None = None

    @property
    def student(self) -> Any:
        """The distribution as a frozen `scipy.stats.t`."""
        return stats.t(self.degrees_of_freedom, self.location, self.scale)


class VolumePrior(Prior):
    """Organ volumes are log-normal, with unknown mean and spread learnt from the support set.

    The conjugate normal-inverse-gamma model of log volumes (Gelman et al., Bayesian Data Analysis, section 3.3) starts
    from a published table where one has the organ, else from an expected spread alone. Its prediction for one more
    case is a Student t, so that one support case gives a wide interval and ten a narrow one. Organs that are cut by the
    scan's edge are left out of the fit.
    """

    name = "volume"
    organs_: dict[str, VolumeDistribution]
    unmeasured_: tuple[str, ...]  # organs that the support set shows, but none as a whole

    def fit(
        self, labels: Sequence[Volume], organs: Mapping[str, int], images: Sequence[Volume] | None = None
    ) -> "VolumePrior":
        """Learn from label maps; an organ that is cut in all of them and in no table stays unknown."""
        self.organs_ = {}
        seen = set()
        for organ, number in organs.items():
            masks = [(label, label.array == number) for label in labels]
            whole = [(label, mask) for label, mask in masks if mask.any() and not touches_edge(mask)]
            volumes = [float(mask.sum()) * label.voxel_volume_ml for label, mask in whole]
            distribution = predictive_distribution(volumes, organ)
            if distribution is not None:
                self.organs_[organ] = distribution
            if any(mask.any() for _, mask in masks):
                seen.add(organ)
        self.unmeasured_ = tuple(organ for organ in organs if organ in seen and organ not in self.organs_)
        return self

    def surprise(self, label: Volume, organs: Mapping[str, int], image: Volume | None = None) -> list[Surprise]:
        """Return one statement for each organ whose volume is known, two-sided; see `Prior.surprise`.

        Of an organ of unknown volume, since all support scans cut it, it is said if it is missing.
        """
        self._check_fitted()
        found = []
        for organ, number in organs.items():
            mask = label.array == number
            if organ in self.organs_:
                found.append(self._judge(organ, label, mask))
            elif organ in self.unmeasured_ and not mask.any():
                found.append(Surprise(organ, self.name, f"{organ} is missing, which every support scan shows", 0.0))
        return found

    def log_prior(self, organ: str, value: float) -> float:
        """Return the log density of a volume in mL; minus infinity at 0."""
        if value <= 0:
            return -math.inf
        return float(self._learnt(organ).student.logpdf(math.log(value)) - math.log(value))

    def logit_offsets(self, scores: OrganScores) -> dict[str, np.ndarray]:
        """Return one number for each organ: the shift of its logits that makes its volume most plausible.

        It maximises log p(volume) - shift^2 / 2: networks that learnt from few cases are taken to be off by a logit or
        so all over an organ. Nothing is said of organs that the network does not find, or that the scan's edge cuts.
        """
        self._check_fitted()
        voxel_ml = Volume(scores.winners, scores.affine).voxel_volume_ml
        offsets = {}
        for organ in scores.organs:
            mask = scores.mask(organ)
            if organ not in self.organs_ or not mask.any() or touches_edge(mask):
                continue
            # Only voxels near the organ can change sides within the range of shifts.
            channel = scores.channel(organ)
            rest = np.delete(scores.logits, channel, axis=0).max(axis=0)
            margin = (scores.logits[channel] - rest).ravel()
            margins = np.sort(margin[margin > -VOLUME_SHIFTS.max()])
            voxels = len(margins) - np.searchsorted(margins, -VOLUME_SHIFTS, side="right")
            student = self._learnt(organ).student
            evidence = student.logpdf(np.log(np.maximum(voxels, 0.5) * voxel_ml)) - VOLUME_SHIFTS**2 / 2
            offsets[organ] = np.float32(VOLUME_SHIFTS[evidence.argmax()])
        return offsets

    def to_json(self) -> dict[str, Any]:
        """Return the distribution of each organ; null for one that is known to be there, of unknown volume."""
        known = {organ: asdict(distribution) for organ, distribution in self.organs_.items()}
        return known | dict.fromkeys(self.unmeasured_)

    @classmethod
    def from_json(cls, learnt: Mapping[str, Any]) -> "VolumePrior":
        """Return a fitted prior."""
        prior = cls()
        prior.organs_ = {organ: VolumeDistribution(**fields) for organ, fields in learnt.items() if fields is not None}
        prior.unmeasured_ = tuple(organ for organ, fields in learnt.items() if fields is None)
        return prior

    def _judge(self, organ: str, label: Volume, mask: np.ndarray) -> Surprise:
        student = self._learnt(organ).student
        low, high = np.exp(student.interval(INTERVAL))
        expected = f"expected {low:.3g} to {high:.3g} mL ({INTERVAL:.0%} interval)"
        volume_ml = float(mask.sum()) * label.voxel_volume_ml
        if volume_ml == 0:
            # No volume has no logarithm. How rare it is that an organ is missing, the support set cannot tell; that it
            # was in every case of it makes this the most surprising mask of all.
            return Surprise(organ, self.name, f"{organ} is missing, {expected}", 0.0)
        cumulative = float(student.cdf(math.log(volume_ml)))
        p_value = 2 * min(cumulative, 1 - cumulative)
        z = float(stats.norm.ppf(min(max(cumulative, 1e-12), 1 - 1e-12)))
        text = f"{organ} has {volume_ml:.3g} mL, {expected}"
        if z < 0 and touches_edge(mask):
            return Surprise(organ, self.name, f"{text}, but it touches the edge of the scan", 1.0, z)
        return Surprise(organ, self.name, text, p_value, z)


def predictive_distribution(volumes_ml: Sequence[float], organ: str) -> VolumeDistribution | None:
    """Return the predictive distribution of an organ's log volume, or None if neither cases nor a table know it.

    Args:
        volumes_ml: measured volumes, all positive.
        organ: name, looked up in the published table.
    """
    reference = reference_volume(organ)
    count = len(volumes_ml)
    if not count and reference is None:
        return None
    logs = np.log(volumes_ml) if count else np.zeros(0)
    cv = UNKNOWN_CV if reference is None else reference.cv
    variance = math.log1p(cv**2)  # of the logarithm of a log-normal quantity
    prior_weight = 0.0 if reference is None else TABLE_WEIGHT
    prior_mean = 0.0 if reference is None else math.log(reference.mean_ml) - variance / 2
    weight = prior_weight + count
    mean = (prior_weight * prior_mean + logs.sum()) / weight
    degrees = SPREAD_WEIGHT + count - (1 if reference is None else 0)
    sample_mean = logs.mean() if count else 0.0
    squares = ((logs - sample_mean) ** 2).sum() if count else 0.0
    apart = prior_weight * count / weight * (sample_mean - prior_mean) ** 2
    scale = math.sqrt((SPREAD_WEIGHT * variance + squares + apart) / degrees * (1 + 1 / weight))
    return VolumeDistribution(
        float(mean), scale, float(degrees), count, None if reference is None else reference.source
    )


def touches_edge(mask: np.ndarray) -> bool:
    """Return whether more than `CUT_FRACTION` of a mask's surface voxels, (I, J, K), lie on the faces of its grid."""
    if not mask.any():
        return False
    padded = np.pad(mask, 1)
    core = padded[1:-1, 1:-1, 1:-1].copy()
    for axis in range(3):
        for step in (-1, 1):
            core &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    surface = mask & ~core
    faces = np.zeros_like(mask)
    for axis in range(3):
        view = np.moveaxis(faces, axis, 0)
        view[0] = view[-1] = True
    return int((surface & faces).sum()) > CUT_FRACTION * int(surface.sum())
