"""Augmentation of support windows, composed in one place from the modality."""

import math
from collections.abc import Sequence

from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

from medfm3d.adaptation.deformed_window import RandDeformedWindowd

ROTATION_RAD = math.radians(20)


def training_augmentation(window: Sequence[int], modality: str, *, strength: float = 1.0, seed: int = 0) -> Compose:
    """Return the random transforms from a preprocessed case to a training window.

    A window of the plan's size is cut around a random voxel of a random organ (or of the background) and deformed, then
    changed in contrast. Intensities are expected to be standardised. Bias fields are for MR alone.

    Args:
        window: sides of the window in voxels.
        modality: "CT" or "MR".
        strength: scales the deformation; 0 leaves the geometry as it is.
        seed: of the transforms' random state.
    """
    transforms = [
        RandDeformedWindowd(
            ("image", "label"),
            window,
            rotation_rad=ROTATION_RAD * strength,
            scaling=0.2 * strength,
            elastic_voxels=1.5 * strength,
        ),
        RandGaussianSmoothd("image", prob=0.3, sigma_x=(0.4, 0.9), sigma_y=(0.4, 0.9), sigma_z=(0.4, 0.9)),
        RandScaleIntensityd("image", prob=0.3, factors=0.3),
        RandShiftIntensityd("image", prob=0.3, offsets=0.3),
        RandAdjustContrastd("image", prob=0.4, gamma=(0.6, 1.65), retain_stats=True),
        RandGaussianNoised("image", prob=0.4, std=0.2),
    ]
    if modality == "MR":
        transforms.append(RandBiasFieldd("image", prob=0.3, degree=2, coeff_range=(0.0, 0.15)))
    return Compose(transforms).set_random_state(seed)
