"""Where in the body an organ lies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats
from scipy.ndimage import gaussian_filter

from medfm3d.priors.body_frame import BodyFrame, find_body
from medfm3d.priors.organ_box import OrganBox, box_of_voxels
from medfm3d.priors.organ_places import OrganPlace, cut_axes, place_organ
from medfm3d.priors.organ_scores import OrganScores
from medfm3d.priors.prior import Prior, Surprise
from medfm3d.priors.scan_alignment import Alignment, align
from medfm3d.volumes import Volume, resample_to

MAX_CASES = 10  # support scans beyond these are not learnt from: each costs time at every query
# Spread along R, A and S of an organ's centre about where one other scan puts it, measured by leave-one-out on the
# development splits that `scan_alignment.align` names: in millimetres between bodies, in box sides between crops.
BODY_SPREAD_MM = np.array([5.0, 11.0, 18.0])
CROP_SPREAD = np.array([0.05, 0.03, 0.045])
SPREAD_WEIGHT = 4.0  # degrees of freedom of that expectation
LEVEL_QUANTILE = 0.05  # of an organ's voxels lie where the log-prior is below 0
FLOOR = -6.0  # the log-prior is never below this: a network that is sure may differ from 10 cases
BOX_LOG_DENSITY = math.log(0.05)  # log-prior at the faces of an organ's box


@dataclass(frozen=True, eq=False)
class OrganLocation:
    """What is learnt of one organ.

    Attributes:
        places: the organ in each support scan, at a few millimetres, in that scan's millimetres.
        spread_mm: (3,), of its centre about its expected place.
        degrees_of_freedom: of the spread.
        level: density that all but `LEVEL_QUANTILE` of the organ's voxels exceed.
    """

    places: list[OrganPlace]
    spread_mm: np.ndarray
    degrees_of_freedom: float
    level: float
    blurred: list[Volume] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.blurred.extend(_blurred(place, self.spread_mm) for place in self.places)


class LocationPrior(Prior):
    """Organs lie where they lay in the support scans, after these were aligned with the query (see `align`).

    The density of an organ is the weighted mean over support scans of its mask, blurred by the spread of its centre:
    what leave-one-out within the support set shows, and an expected spread with the weight of 4 degrees of freedom, so
    that one scan gives a wide density and ten a narrower one. Where a scan cannot be aligned with any support scan, the
    prior says so and adds nothing.

    Args:
        modality: "CT", "MR" or "auto", of the scans.
    """

    name = "location"
    needs_image = True
    organs_: dict[str, OrganLocation]
    frames_: list[BodyFrame]

    def __init__(self, modality: str = "auto") -> None:
        self.modality = modality

    def fit(
        self, labels: Sequence[Volume], organs: Mapping[str, int], images: Sequence[Volume] | None = None
    ) -> "LocationPrior":
        """Learn from label maps and scans; see `Prior.fit`."""
        if images is None or len(images) != len(labels):
            raise ValueError("the location prior learns from label maps and their scans: give one image for each label")
        labels, images = labels[:MAX_CASES], images[:MAX_CASES]
        self.frames_ = [find_body(image, self.modality) for image in images]
        others = [[frame for frame in self.frames_ if frame is not own] for own in self.frames_]
        alignments = [align(own, rest) for own, rest in zip(self.frames_, others, strict=True)]
        self.organs_ = {}
        for organ, number in organs.items():
            places = [
                place_organ(label, number, _cell_mm(frame)) for label, frame in zip(labels, self.frames_, strict=True)
            ]
            expected = np.mean([_expected_spread_mm(frame) ** 2 for frame in self.frames_], axis=0)
            apart = _residuals(places, alignments)
            degrees = SPREAD_WEIGHT + len(apart)
            spread = np.sqrt((SPREAD_WEIGHT * expected + (apart**2).sum(axis=0)) / degrees)
            self.organs_[organ] = OrganLocation(places, spread, degrees, _level(places, spread))
        return self

    def surprise(self, label: Volume, organs: Mapping[str, int], image: Volume | None = None) -> list[Surprise]:
        """Return, for each organ that has a mask, how far its centre lies from where it is expected.

        The distance is Mahalanobis', over the axes along which the scan does not cut the organ.
        """
        self._check_fitted()
        if image is None:
            raise ValueError("the location prior judges a mask by its scan: give the image")
        present = [organ for organ in organs if organ in self.organs_ and (label.array == organs[organ]).any()]
        alignments = align(find_body(image, self.modality), self.frames_) if present else []
        return [self._judge(organ, label, organs[organ], alignments) for organ in present]

    def log_prior(self, organ: str, value: float) -> float:
        """Return the log density of a squared Mahalanobis distance of a centre from its expected place."""
        return float(stats.f.logpdf(value / 3, 3, self._learnt(organ).degrees_of_freedom) - math.log(3))

    def logit_offsets(self, scores: OrganScores) -> dict[str, np.ndarray]:
        """Return the log density relative to its level in the organ, from 0 (the organ may be here) to `FLOOR`.

        Raises:
            ValueError: if the scores come without a frame.
        """
        self._check_fitted()
        if scores.frame is None:
            raise ValueError("the location prior needs the scan's body frame: see find_body")
        alignments = align(scores.frame, self.frames_)
        if not any(alignments):
            return {}
        grid = Volume(np.broadcast_to(np.uint8(0), scores.logits.shape[1:]), scores.affine)
        known = [organ for organ in scores.organs if organ in self.organs_]
        return {organ: self._log_density(organ, alignments, grid) for organ in known}

    def box(self, organ: str, frame: BodyFrame, margin_mm: float = 0.0) -> OrganBox | None:
        """Return the box in which an organ can lie in a scan; see `boxes`."""
        return self.boxes([organ], frame, margin_mm)[organ]

    def boxes(self, organs: Sequence[str], frame: BodyFrame, margin_mm: float = 0.0) -> dict[str, OrganBox | None]:
        """Return the boxes in which organs can lie in a scan, or None for each if the scan cannot be aligned.

        Args:
            organs: names.
            frame: of the scan, from `find_body`.
            margin_mm: added at every face.
        """
        self._check_fitted()
        alignments = align(frame, self.frames_)
        found: dict[str, OrganBox | None] = {}
        for organ in organs:
            pieces = _in_query(self._learnt(organ), alignments)
            found[organ] = None
            if pieces:
                grid = _common_grid(pieces, _cell_mm(frame))
                likely = self._log_density(organ, alignments, grid) > BOX_LOG_DENSITY
                box = box_of_voxels(likely, grid.affine)
                found[organ] = box and box.grown(margin_mm)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the frames of the support scans, and each organ's places and spread."""
        organs = {
            organ: {
                "places": [place.to_json() for place in learnt.places],
                "spread_mm": learnt.spread_mm.tolist(),
                "degrees_of_freedom": learnt.degrees_of_freedom,
                "level": learnt.level,
            }
            for organ, learnt in self.organs_.items()
        }
        return {"modality": self.modality, "frames": [frame.to_json() for frame in self.frames_], "organs": organs}

    @classmethod
    def from_json(cls, learnt: Mapping[str, Any]) -> "LocationPrior":
        """Return a fitted prior."""
        prior = cls(learnt["modality"])
        prior.frames_ = [BodyFrame.from_json(frame) for frame in learnt["frames"]]
        prior.organs_ = {
            organ: OrganLocation(
                [OrganPlace.from_json(place) for place in stored["places"]],
                np.array(stored["spread_mm"], dtype=float),
                float(stored["degrees_of_freedom"]),
                float(stored["level"]),
            )
            for organ, stored in learnt["organs"].items()
        }
        return prior

    def _judge(self, organ: str, label: Volume, number: int, alignments: Sequence[Alignment | None]) -> Surprise:
        learnt = self._learnt(organ)
        centre = place_organ(label, number, None).centre_mm
        expected = _expected_centre(learnt.places, alignments)
        if expected is None:
            text = f"{organ}: its place was not judged, the scan shows another part of the body than the support set"
            return Surprise(organ, self.name, text, 1.0)
        judged = ~cut_axes(label, number)
        apart = centre - expected
        if not judged.any():
            return Surprise(organ, self.name, f"{organ} is cut by the edges of the scan, its place was not judged", 1.0)
        squared = float(((apart / learnt.spread_mm)[judged] ** 2).sum())
        count = int(judged.sum())
        p_value = float(stats.f.sf(squared / count, count, learnt.degrees_of_freedom))
        words = ("right", "left"), ("front", "back"), ("up", "down")
        worst = int(np.argmax(np.where(judged, np.abs(apart / learnt.spread_mm), -1)))
        towards = words[worst][0 if apart[worst] > 0 else 1]
        text = (
            f"{organ} lies {np.linalg.norm(apart):.0f} mm from its expected place, most of it to the {towards}"
            if worst < 2
            else f"{organ} lies {np.linalg.norm(apart):.0f} mm from its expected place, most of it {towards}"
        )
        return Surprise(organ, self.name, text, p_value, math.sqrt(squared))

    def _log_density(self, organ: str, alignments: Sequence[Alignment | None], grid: Volume) -> np.ndarray:
        """The clipped log-prior on a grid, (I, J, K) float32."""
        learnt = self._learnt(organ)
        pieces = _in_query(learnt, alignments)
        coarse = _common_grid([(piece, weight) for piece, weight in pieces], float(pieces[0][0].affine[0, 0]))
        density = np.zeros(coarse.shape, dtype=np.float32)
        for piece, weight in pieces:
            density += np.float32(weight) * resample_to(piece, coarse, outside=0.0).array
        logs = np.log(np.maximum(density / learnt.level, math.exp(FLOOR))).clip(FLOOR, 0).astype(np.float32)
        return resample_to(Volume(logs, coarse.affine), grid, outside=FLOOR).array


def _expected_spread_mm(frame: BodyFrame) -> np.ndarray:
    return BODY_SPREAD_MM if frame.kind == "body" else CROP_SPREAD * frame.size_mm


def _cell_mm(frame: BodyFrame) -> float:
    """Size of the cells in which an organ's place is stored: half the least spread, or so."""
    return float(_expected_spread_mm(frame).min()) / 2 if frame.kind == "scan" else 4.0


def _expected_centre(places: Sequence[OrganPlace], alignments: Sequence[Alignment | None]) -> np.ndarray | None:
    """Weighted mean of where the support scans put an organ's centre, query millimetres; None without any."""
    pairs = [(place, alignment) for place, alignment in zip(places, alignments, strict=True) if alignment]
    if not pairs:
        return None
    centres = [alignment.to_query(place.centre_mm) for place, alignment in pairs]
    return np.average(centres, axis=0, weights=[alignment.weight for _, alignment in pairs])


def _residuals(places: Sequence[OrganPlace], alignments: Sequence[Sequence[Alignment | None]]) -> np.ndarray:
    """How far each support scan's organ lies from where the others put it, (n, 3)."""
    found = []
    for index, alignment in enumerate(alignments):
        others = [place for other, place in enumerate(places) if other != index]
        expected = _expected_centre(others, alignment)
        if expected is not None:
            found.append(places[index].centre_mm - expected)
    return np.array(found).reshape(-1, 3)


def _blurred(place: OrganPlace, spread_mm: np.ndarray) -> Volume:
    """An organ's mask blurred by the spread of its place, with room around it for what is blurred over its edge."""
    sigma = spread_mm / place.cell_mm
    room = np.ceil(4 * sigma).astype(int)
    padded = np.pad(place.share.astype(np.float32) / 255, [(side, side) for side in room])
    affine = place.affine.copy()
    affine[:3, 3] -= room * place.cell_mm
    return Volume(gaussian_filter(padded, sigma, mode="constant", truncate=4), affine)


def _level(places: Sequence[OrganPlace], spread_mm: np.ndarray) -> float:
    """Density that an organ's voxels exceed when it lies a spread away in any direction, but for the lowest few."""
    seen = []
    for place in places:
        blurred = _blurred(place, spread_mm)
        cells = np.argwhere(place.share > 127) + np.ceil(4 * spread_mm / place.cell_mm).astype(int)
        for axis in range(3):
            step = max(1, round(float(spread_mm[axis] / place.cell_mm)))
            for sign in (-1, 1):
                moved = cells.copy()
                moved[:, axis] += sign * step
                seen.append(blurred.array[tuple(moved.T)])
    values = np.concatenate(seen)
    return float(max(np.quantile(values, LEVEL_QUANTILE), 1e-6)) if len(values) else 1e-6


def _in_query(learnt: OrganLocation, alignments: Sequence[Alignment | None]) -> list[tuple[Volume, float]]:
    """The blurred masks with affines that put them into the query, and their weights."""
    pieces = []
    for blurred, alignment in zip(learnt.blurred, alignments, strict=True):
        if alignment and alignment.weight > 0.01:
            affine = np.diag([*(1 / alignment.scale), 1.0]) @ blurred.affine
            affine[:3, 3] -= alignment.shift_mm / alignment.scale
            pieces.append((Volume(blurred.array, affine), alignment.weight))
    return pieces


def _common_grid(pieces: Sequence[tuple[Volume, float]], cell_mm: float) -> Volume:
    """A grid along R, A and S that holds all the pieces."""
    low = np.min([piece.affine[:3, 3] for piece, _ in pieces], axis=0)
    high = np.max(
        [piece.affine[:3, :3] @ (np.array(piece.shape) - 1) + piece.affine[:3, 3] for piece, _ in pieces], axis=0
    )
    affine = np.diag([cell_mm, cell_mm, cell_mm, 1.0])
    affine[:3, 3] = low
    sides = np.ceil((high - low) / cell_mm).astype(int) + 1
    return Volume(np.broadcast_to(np.uint8(0), tuple(sides)), affine)
