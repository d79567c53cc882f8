"""The adaptation plan: everything that preprocessing must know, decided once from the support set and kept as data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medfm3d.cohorts import Case
from medfm3d.volumes import Volume, VolumeError, check_same_grid, mask_box, read_label, read_volume, reorient
from medfm3d.volumes.intensity import detect_modality

WINDOW_MULTIPLE = 8
ORGANS_SHARE = 0.8  # of the window along each axis, at most, for the organs together
LEAST_WINDOW = 32  # where the volume is as large: an organ is known by its surroundings
MAX_WINDOW = 64  # a training step on two cores takes 0.5 s at 64 voxels a side and more than three times that at 96


@dataclass(frozen=True)
class AdaptationPlan:
    """How scans are brought to the network and its answer is labelled.

    Attributes:
        organs: label id of each organ in the label files, in the order of the network's channels after background.
        modality: "CT" or "MR".
        spacing_mm: voxel size at which the network works, along the axes of RAS orientation.
        window: sides of the window in voxels at that spacing, multiples of 8.
    """

    organs: dict[str, int]
    modality: str
    spacing_mm: tuple[float, float, float]
    window: tuple[int, int, int]

    def __post_init__(self) -> None:
        for name in ("spacing_mm", "window"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_organs(self.organs)
        if self.modality not in ("CT", "MR"):
            raise ValueError(f"modality must be CT or MR, got {self.modality!r}")
        if any(side % WINDOW_MULTIPLE or side <= 0 for side in self.window):
            raise ValueError(f"window sides must be multiples of {WINDOW_MULTIPLE}, got {tuple(self.window)}")
        if any(not size > 0 for size in self.spacing_mm):
            raise ValueError(f"spacing_mm must be positive, got {tuple(self.spacing_mm)}")

    @property
    def organ_names(self) -> list[str]:
        """Names in channel order, without background."""
        return list(self.organs)

    @property
    def label_ids(self) -> list[int]:
        """Ids in the label files in channel order, background's 0 first."""
        return [0, *self.organs.values()]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {**asdict(self), "spacing_mm": list(self.spacing_mm), "window": list(self.window)}


def check_organs(organs: Mapping[str, int]) -> None:
    """Raise ValueError unless organs are named and have distinct ids from 1 to 65535."""
    if not organs:
        raise ValueError("no organs given: name at least one as NAME=ID")
    ids = list(organs.values())
    if any(not name or not 1 <= number <= 65535 for name, number in organs.items()) or len(set(ids)) != len(ids):
        raise ValueError(f"organs need names and distinct ids from 1 to 65535, got {dict(organs)}")


def read_support(cases: Sequence[Case], organs: Mapping[str, int]) -> list[tuple[Volume, Volume]]:
    """Read and check the image and label of each support case, both in RAS orientation.

    Raises:
        VolumeError: if a scan or label is unusable, their grids differ, a case has no label, or an organ is not
            outlined in it: naming the file, what is wrong and what to do.
    """
    check_organs(organs)
    pairs = []
    for case in cases:
        if case.label is None:
            raise VolumeError(f"{case.image}: has no label, so it cannot be in the support set; choose another case")
        image, label = read_volume(case.image), read_label(case.label)
        check_same_grid(image, label)
        absent = [
            name
            for name, number in organs.items()
            if (case.annotated is not None and name not in case.annotated) or not (label.array == number).any()
        ]
        if absent:
            raise VolumeError(
                f"{case.label}: {', '.join(absent)} not outlined here, and a support case must show every organ; "
                "choose another case or fewer organs"
            )
        pairs.append((reorient(image), reorient(label)))
    return pairs


def plan_adaptation(
    cases: Sequence[Case],
    organs: Mapping[str, int],
    *,
    modality: str = "auto",
    spacing_mm: float | Sequence[float] | None = None,
    max_window: int = MAX_WINDOW,
    window_multiple: int = WINDOW_MULTIPLE,
) -> AdaptationPlan:
    """Decide spacing and window from the support set.

    The spacing is the support set's median along each axis, as in nnU-Net (Isensee et al. 2021). The window holds all
    organs of the median case together, and a margin around them, but no more than the median volume and `max_window`
    along an axis; sides are rounded up to multiples of 8. With few scans and minutes to train, steps count for more
    than far background: on head-and-neck CT, K = 5, 15 development cases, one draw, windows of 40 x 40 x 48 reach a
    mean Dice of 0.66 in half of the time in which windows of 64 x 64 x 64 reach 0.64.

    Args:
        cases: support cases with labels.
        organs: label id of each organ.
        modality: "CT", "MR", or "auto": see `medfm3d.volumes.intensity.detect_modality`; all cases must agree.
        spacing_mm: working spacing instead of the median; one number for all axes, or three.
        max_window: largest side of the window in voxels.
        window_multiple: of the encoder (see `medfm3d.encoders.window_multiple`), where it is more than 8; a window has
            at least two such steps along each axis.

    Raises:
        VolumeError: as `read_support`, and if modalities differ between cases.
        ValueError: if no cases are given, or the largest window has no room for two steps of the encoder.
    """
    if not cases:
        raise ValueError("no support cases: name at least one")
    pairs = read_support(cases, organs)
    modalities = [detect_modality(image.array) if modality == "auto" else modality for image, _ in pairs]
    if len(set(modalities)) > 1:
        listed = ", ".join(f"{case.name} {found}" for case, found in zip(cases, modalities, strict=True))
        raise VolumeError(f"the support set mixes modalities ({listed}); adapt to each apart, or state --modality")
    if spacing_mm is None:
        spacing = np.median([image.spacing_mm for image, _ in pairs], axis=0)
    else:
        spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=float), 3)
    sizes = [np.array(image.shape) * image.spacing_mm / spacing for image, _ in pairs]
    extents = [organ_extent(label.array, organs) * label.spacing_mm / spacing for _, label in pairs]
    surroundings = np.maximum(np.median(extents, axis=0) / ORGANS_SHARE, LEAST_WINDOW)
    wanted = np.minimum(np.median(sizes, axis=0), surroundings)
    multiple = max(WINDOW_MULTIPLE, window_multiple)
    if max_window < 2 * multiple:
        raise ValueError(f"the encoder needs windows of {2 * multiple} voxels a side, and {max_window} are allowed")
    window = np.ceil(wanted / multiple - 1e-6) * multiple
    window = np.clip(window, 2 * multiple, max_window // multiple * multiple)
    return AdaptationPlan(
        organs=dict(organs),
        modality=modalities[0],
        spacing_mm=tuple(round(float(size), 4) for size in spacing),
        window=tuple(int(side) for side in window),
    )


def organ_extent(label: np.ndarray, organs: Mapping[str, int]) -> np.ndarray:
    """Return the sides, in voxels, of the box that holds all organs of a label map (I, J, K), at least one of them."""
    return np.array([side.stop - side.start for side in mask_box(np.isin(label, list(organs.values())))])
