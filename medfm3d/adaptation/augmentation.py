"""Augmentation of support windows, composed in one place from the modality."""

import math
from collections.abc import Sequence

from monai.transforms import (
    Compose,
    Rand3DElasticd,
    RandAdjustContrastd,
    RandBiasFieldd,
    RandCropByLabelClassesd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)

ROTATION_RAD = math.radians(20)


def training_augmentation(
    window: Sequence[int], organ_count: int, modality: str, *, strength: float = 1.0, seed: int = 0
) -> Compose:
    """Return the random transforms from a preprocessed case to a training window.

    A window of the plan's size is cut around a random voxel of a random organ (or of the background), then deformed and
    changed in contrast. Nothing is mirrored: left and right organs must stay apart. Intensities are expected to be
    standardised. Bias fields are for MR alone.

    Args:
        window: sides of the window in voxels.
        organ_count: number of organs; the label holds channels 0 ... organ_count.
        modality: "CT" or "MR".
        strength: scales the ranges of the deformation; 0 leaves the geometry as it is.
        seed: of the transforms' random state.
    """
    keys = ("image", "label")
    transforms = [
        SpatialPadd(keys, spatial_size=window, mode=("edge", "constant")),
        RandCropByLabelClassesd(
            keys, label_key="label", spatial_size=window, num_classes=organ_count + 1, num_samples=1, warn=False
        ),
    ]
    if strength > 0:
        transforms.append(
            Rand3DElasticd(
                keys,
                prob=0.9,
                sigma_range=(5, 8),
                magnitude_range=(0, 150 * strength),
                rotate_range=(ROTATION_RAD * strength,) * 3,
                scale_range=(0.2 * strength,) * 3,
                translate_range=tuple(0.06 * strength * side for side in window),
                mode=("bilinear", "nearest"),
                padding_mode=("border", "zeros"),
            )
        )
    transforms += [
        RandGaussianSmoothd("image", prob=0.3, sigma_x=(0.4, 0.9), sigma_y=(0.4, 0.9), sigma_z=(0.4, 0.9)),
        RandScaleIntensityd("image", prob=0.3, factors=0.3),
        RandShiftIntensityd("image", prob=0.3, offsets=0.3),
        RandAdjustContrastd("image", prob=0.4, gamma=(0.6, 1.65), retain_stats=True),
        RandGaussianNoised("image", prob=0.4, std=0.2),
    ]
    if modality == "MR":
        transforms.append(RandBiasFieldd("image", prob=0.3, degree=2, coeff_range=(0.0, 0.15)))
    return Compose(transforms).set_random_state(seed)
