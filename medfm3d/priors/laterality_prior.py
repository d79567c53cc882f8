"""Left organs lie on the left."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medfm3d.priors.body_frame import find_body
from medfm3d.priors.organ_places import place_organ
from medfm3d.priors.organ_scores import OrganScores
from medfm3d.priors.prior import Prior, Surprise
from medfm3d.volumes import Volume
from medfm3d.volumes.organ_sides import organ_pairs, organ_side

# Names are taken at their word, as if one case had been seen of which a hundredth was on the other side; a support set
# in which the sides are exchanged overrules that.
WRONG_SHARE = 0.01
SOFT_MM = 5.0  # over which the log-prior sets in
REACH_QUANTILE = 0.99  # of an organ's voxels lie no further over the plane than its reach
OPPOSITE = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class OrganSide:
    """What is learnt of one organ that has a side.

    Attributes:
        side: "left" or "right", as its name says.
        partner: the organ of the same name on the other side, if it is segmented too.
        wrong_probability: of lying on the other side than `side`.
        reach_mm: how far the organ reaches over the plane that parts the sides.
    """

    side: str
    partner: str | None
    wrong_probability: float
    reach_mm: float


class LateralityPrior(Prior):
    """Organs with left or right in their names lie on their side.

    Of a pair, each lies on its side of the other. An organ whose partner is not segmented lies on its side of the
    body's mid-plane, for which the scan is needed: without it, or where no outline of a body is in sight, the prior
    says nothing of single organs.

    Args:
        modality: "CT", "MR" or "auto", of the scans.
    """

    name = "laterality"
    organs_: dict[str, OrganSide]

    def __init__(self, modality: str = "auto") -> None:
        self.modality = modality

    def fit(
        self, labels: Sequence[Volume], organs: Mapping[str, int], images: Sequence[Volume] | None = None
    ) -> "LateralityPrior":
        """Learn from label maps, and from scans where there are any; organs without a side are left out."""
        planes = self._midplanes(images, len(labels))
        partners = _partners(organs)
        self.organs_ = {}
        for organ, number in organs.items():
            side, _ = organ_side(organ)
            partner = partners.get(organ)
            if side is None:
                continue
            wrong, seen, reach = 0, 0, 0.0
            for label, midplane in zip(labels, planes, strict=True):
                centres = _centres(label, {name: organs[name] for name in (organ, partner) if name})
                plane = _plane(organ, partner, centres, midplane)
                if plane is None:
                    continue
                seen += 1
                over = (plane - centres[organ]) * (1 if side == "right" else -1)
                wrong += over > 0
                # How far its voxels reach over the plane on the side on which it does not lie.
                along = _along_r(label, number) - plane
                reach = max(reach, float(np.quantile(along if centres[organ] < plane else -along, REACH_QUANTILE)))
            probability = (WRONG_SHARE + wrong) / (1 + seen)
            self.organs_[organ] = OrganSide(side, partner, float(probability), max(0.0, reach))
        return self

    def surprise(self, label: Volume, organs: Mapping[str, int], image: Volume | None = None) -> list[Surprise]:
        """Return one statement for each sided organ that can be judged."""
        self._check_fitted()
        known = {organ: number for organ, number in organs.items() if organ in self.organs_}
        centres = _centres(label, known)
        alone = [organ for organ in centres if self.organs_[organ].partner not in centres]
        (midplane,) = self._midplanes([image] if image is not None and alone else None, 1)
        found = []
        for organ, centre in centres.items():
            learnt = self.organs_[organ]
            plane = _plane(organ, learnt.partner, centres, midplane)
            if plane is None:
                continue
            seen = "right" if centre > plane else "left"
            wrong = learnt.wrong_probability
            p_value = 1.0 if (wrong if seen != learnt.side else 1 - wrong) >= 0.5 else min(wrong, 1 - wrong)
            expected = learnt.side if wrong < 0.5 else OPPOSITE[learnt.side]
            of = f"of {learnt.partner}" if learnt.partner in centres else "of the body's mid-plane"
            text = f"{organ} lies {seen} {of}, expected {expected}"
            found.append(Surprise(organ, self.name, text, float(p_value)))
        return found

    def log_prior(self, organ: str, value: float) -> float:
        """Return the log probability of a side: positive values are right, negative ones left."""
        learnt = self._learnt(organ)
        on_its_side = (value > 0) == (learnt.side == "right")
        return math.log(1 - learnt.wrong_probability if on_its_side else learnt.wrong_probability)

    def logit_offsets(self, scores: OrganScores) -> dict[str, np.ndarray]:
        """Return what lowers an organ's logits on the other side, beyond its reach over the plane.

        The plane is the body's mid-plane, where an outline is in sight; else, of a pair that the network finds, the one
        half-way between the two.
        """
        self._check_fitted()
        label = scores.label
        midplane = scores.frame.midplane_mm if scores.frame is not None and scores.frame.kind == "body" else None
        channels = {organ: scores.channel(organ) for organ in scores.organs if organ in self.organs_}
        centres = _centres(label, channels) if midplane is None else {}
        indices = np.ogrid[tuple(slice(side) for side in label.shape)]
        along_r = sum(label.affine[0, axis] * indices[axis] for axis in range(3)) + label.affine[0, 3]
        offsets = {}
        for organ in channels:
            learnt = self.organs_[organ]
            plane = midplane if midplane is not None else _plane(organ, learnt.partner, centres, None)
            if plane is None:
                continue
            log_odds = math.log((1 - learnt.wrong_probability) / learnt.wrong_probability)
            expected = learnt.side if log_odds > 0 else OPPOSITE[learnt.side]
            over = (plane - along_r) * (1 if expected == "right" else -1) - learnt.reach_mm
            offsets[organ] = (-abs(log_odds) / (1 + np.exp(-(over / SOFT_MM - 2).clip(-30, 30)))).astype(np.float32)
        return offsets

    def to_json(self) -> dict[str, Any]:
        """Return what is learnt of each organ that has a side."""
        return {"modality": self.modality, "organs": {organ: asdict(learnt) for organ, learnt in self.organs_.items()}}

    @classmethod
    def from_json(cls, learnt: Mapping[str, Any]) -> "LateralityPrior":
        """Return a fitted prior."""
        prior = cls(learnt["modality"])
        prior.organs_ = {organ: OrganSide(**fields) for organ, fields in learnt["organs"].items()}
        return prior

    def _midplanes(self, images: Sequence[Volume] | None, count: int) -> list[float | None]:
        if images is None:
            return [None] * count
        frames = [find_body(image, self.modality) for image in images]
        return [frame.midplane_mm if frame.kind == "body" else None for frame in frames]


def _partners(organs: Mapping[str, int]) -> dict[str, str]:
    pairs = organ_pairs(organs)
    return dict(pairs) | {right: left for left, right in pairs}


def _centres(label: Volume, organs: Mapping[str, int]) -> dict[str, float]:
    """Place along R of the centre of each organ that has a mask."""
    present = {organ: number for organ, number in organs.items() if (label.array == number).any()}
    return {organ: float(place_organ(label, number, None).centre_mm[0]) for organ, number in present.items()}


def _plane(organ: str, partner: str | None, centres: Mapping[str, float], midplane: float | None) -> float | None:
    """Place along R of the plane that parts the sides: half-way to the partner, else the body's mid-plane."""
    if organ in centres and partner in centres:
        return (centres[organ] + centres[partner]) / 2
    return midplane


def _along_r(label: Volume, number: int) -> np.ndarray:
    """Place along R of an organ's voxels."""
    return np.argwhere(label.array == number) @ label.affine[0, :3] + label.affine[0, 3]
