"""How well one mask agrees with its reference outline."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

from medfm3d.evaluation.pairing import case_name
from medfm3d.volumes import Volume, check_same_grid, mask_box


@dataclass(frozen=True)
class OrganScore:
    """Agreement of one organ in one case.

    Attributes:
        case: name of the case.
        organ: name of the organ.
        dice: Dice coefficient in [0, 1]; 0 if only one of both has the organ, None if neither has.
        hd95_mm: larger of the two directed 95th percentiles of the distance between the surfaces' voxels; None unless
            both have the organ.
        surface_dice: share of both surfaces' area that lies within the tolerance of the other (Nikolov et al. 2021,
            "Clinically applicable segmentation of head and neck anatomy"); 0 and None as for `dice`.
        volume_ml: volume of the prediction.
        reference_volume_ml: volume of the reference outline.
        volume_error_ml: prediction - reference.
    """

    case: str
    organ: str
    dice: float | None
    hd95_mm: float | None
    surface_dice: float | None
    volume_ml: float
    reference_volume_ml: float
    volume_error_ml: float

    @property
    def absent(self) -> bool:
        """Whether neither prediction nor reference has the organ, so that there is nothing to score."""
        return self.dice is None

    @property
    def one_sided(self) -> bool:
        """Whether only one of both has the organ, so that no distance between surfaces exists."""
        return self.dice is not None and self.hd95_mm is None


def score_case(
    prediction: Volume,
    label: Volume,
    organs: Mapping[str, int],
    *,
    tolerance_mm: float = 2.0,
    case: str | None = None,
) -> list[OrganScore]:
    """Score each organ of a case.

    Args:
        prediction: label map to judge, (I, J, K).
        label: reference label map on the same grid.
        organs: name and id of each organ to score; other ids are passed over.
        tolerance_mm: distance up to which the surface Dice takes surfaces for the same.
        case: name of the case; by default the prediction's file name.

    Raises:
        VolumeError: if the grids differ.
        ValueError: if the tolerance is negative.
    """
    if tolerance_mm < 0:
        raise ValueError(f"tolerance_mm is {tolerance_mm}: give a distance of 0 mm or more")
    check_same_grid(label, prediction)
    if case is None:
        case = case_name(prediction.source or "case")
    return [_score(prediction, label, case, organ, number, tolerance_mm) for organ, number in organs.items()]


def _score(prediction: Volume, label: Volume, case: str, organ: str, number: int, tolerance_mm: float) -> OrganScore:
    predicted, reference = prediction.array == number, label.array == number
    voxels, reference_voxels = int(predicted.sum()), int(reference.sum())
    volume_ml, reference_volume_ml = voxels * label.voxel_volume_ml, reference_voxels * label.voxel_volume_ml
    dice = hd95_mm = surface_dice = None
    if voxels and reference_voxels:
        pair = [_channel(mask) for mask in crop_to_union(predicted, reference)]
        spacing = [label.spacing_mm]
        everything = {"include_background": True}  # the mask is the only channel, not the background
        with warnings.catch_warnings():
            # MONAI 1.6 calls its own function with an argument that it deprecates.
            warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
            dice = compute_dice(*pair, **everything).item()
            hd95_mm = compute_hausdorff_distance(*pair, percentile=95, spacing=spacing, **everything).item()
            # Subvoxels weight each piece of surface by its area, as the metric's authors do, rather than count voxels.
            surface_dice = compute_surface_dice(
                *pair, class_thresholds=[tolerance_mm], spacing=spacing, use_subvoxels=True, **everything
            ).item()
    elif voxels or reference_voxels:
        dice = surface_dice = 0.0
    return OrganScore(
        case=case,
        organ=organ,
        dice=dice,
        hd95_mm=hd95_mm,
        surface_dice=surface_dice,
        volume_ml=volume_ml,
        reference_volume_ml=reference_volume_ml,
        volume_error_ml=volume_ml - reference_volume_ml,
    )


def crop_to_union(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both masks, cut to the box that holds them.

    That changes no score: MONAI's metrics take what lies beyond an array for empty, as it is around this box.
    """
    box = mask_box(first | second)
    return first[box], second[box]


def _channel(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]
