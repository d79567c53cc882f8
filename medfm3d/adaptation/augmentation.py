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
    RandSimulateLowResolutiond,
)
from torchio import RandomGhosting, RandomMotion, RandomSpike

from medfm3d.adaptation.deformed_window import RandDeformedWindowd
from medfm3d.adaptation.field_of_view import RandFieldOfViewd
from medfm3d.adaptation.noise_texture import RandCTNoised
from medfm3d.adaptation.tissue_contrast import RandTissueContrastd
from medfm3d.adaptation.torchio_transform import RandTorchIOd
from medfm3d.volumes.intensity import CT_AIR

# Strong deformation is what keeps a network from learning a handful of cases by heart. On MSD Hippocampus, K = 5, mean
# Dice of 40 development cases was 0.817, 0.819, 0.824 and 0.816 at a third, two thirds, once and 1.3 times these.
ROTATION_RAD = math.radians(30)
SCALING = 0.3
ELASTIC_VOXELS = 2.25
# In CT half of it serves better: patients lie in it alike, and an organ is told by its place more than by its contrast.
# On head-and-neck CT, K = 5, mean Dice of 15 development cases was 0.663, 0.670 and 0.648 at a quarter, half and once.
DEFORMATION = {"CT": 0.5, "MR": 1.0}

# Milliseconds when applied, for a window of 40 x 56 x 40 and one of 64^3 voxels, one thread of an AMD EPYC: deformed
# window 10 and 26; blur 0.9, 3.4; gamma 0.6, 1.3; white noise 1.2, 3.4; bias field 0.6, 1.3; low resolution 0.4, 1.2;
# motion 6.7, 18; ghosting 1.1, 2.6; spike 1.5, 3.5; CT noise 1.9, 5.1; tissue contrast 0.9, 2.6. With the probabilities
# below a window costs on average 13 and 33 with the default groups, and 1.5 and 3 more with all of them.
GROUPS = ("field-of-view", "intensity", "bias-field", "resolution", "artefacts")
# Cut fields of view raised mean Dice on head-and-neck CT, K = 5, 15 development cases, from 0.671 to 0.693, the
# brainstem's from 0.513 to 0.556: in a third of those scans only its neighbourhood is given above the skull base.
DEFAULT_GROUPS = ("field-of-view", "intensity", "bias-field")


def training_augmentation(
    window: Sequence[int],
    modality: str,
    *,
    strength: float = 1.0,
    groups: Sequence[str] = DEFAULT_GROUPS,
    seed: int = 0,
) -> Compose:
    """Return the random transforms from a preprocessed case to a training window.

    A window of the plan's size is cut around a random voxel of a random organ (or of the background) and deformed, then
    changed in appearance by the groups that are asked for. Intensities are expected to be standardised. Nothing is ever
    mirrored: left and right organs must stay apart.

    Args:
        window: sides of the window in voxels.
        modality: "CT" or "MR".
        strength: scales the modality's deformation; 0 leaves the geometry as it is.
        groups: of `GROUPS`: "field-of-view" (CT alone: scans that end early), "intensity" (blur, contrast, brightness,
            gamma, white noise), "bias-field" (MR alone), "resolution" (thicker voxels) and "artefacts" (MR: motion,
            ghosting, spikes in k-space; CT: noise with the texture of a reconstruction kernel, tissues shifted against
            each other as by contrast agent).
        seed: of the transforms' random state.

    Raises:
        ValueError: if a group or the modality is unknown.
    """
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown or modality not in ("CT", "MR"):
        named = ", ".join(unknown) or modality
        raise ValueError(f"unknown augmentation {named}: groups are {', '.join(GROUPS)}, modalities CT and MR")
    strength = strength * DEFORMATION[modality]
    transforms = [
        RandDeformedWindowd(
            ("image", "label"),
            window,
            rotation_rad=ROTATION_RAD * strength,
            scaling=SCALING * strength,
            elastic_voxels=ELASTIC_VOXELS * strength,
        )
    ]
    if "field-of-view" in groups and modality == "CT":
        transforms.append(RandFieldOfViewd(("image", "label"), value=CT_AIR))
    if "intensity" in groups:
        transforms += [
            RandGaussianSmoothd("image", prob=0.3, sigma_x=(0.4, 0.9), sigma_y=(0.4, 0.9), sigma_z=(0.4, 0.9)),
            RandScaleIntensityd("image", prob=0.3, factors=0.3),
            RandShiftIntensityd("image", prob=0.3, offsets=0.3),
            RandAdjustContrastd("image", prob=0.4, gamma=(0.6, 1.65), retain_stats=True),
            RandGaussianNoised("image", prob=0.4, std=0.2),
        ]
    if "bias-field" in groups and modality == "MR":
        transforms.append(RandBiasFieldd("image", prob=0.3, degree=2, coeff_range=(0.0, 0.15)))
    if "resolution" in groups:
        transforms.append(RandSimulateLowResolutiond("image", prob=0.2, zoom_range=(0.5, 1.0)))
    if "artefacts" in groups:
        transforms += _mr_artefacts() if modality == "MR" else _ct_artefacts()
    return Compose(transforms).set_random_state(seed)


def _mr_artefacts() -> list[RandTorchIOd]:
    """Faults of acquisition in k-space, mild: a window shows an organ, and the organ must stay visible."""
    motion = RandomMotion(degrees=3, translation=1.5, num_transforms=2)
    ghosting = RandomGhosting(num_ghosts=(2, 6), intensity=(0.4, 0.9))
    spike = RandomSpike(intensity=(0.5, 1.5))
    return [
        RandTorchIOd("image", motion, prob=0.1),
        RandTorchIOd("image", ghosting, prob=0.1),
        RandTorchIOd("image", spike, prob=0.05),
    ]


def _ct_artefacts() -> list[RandCTNoised | RandTissueContrastd]:
    """Grain of soft and sharp kernels, and tissues that enhance differently."""
    return [RandCTNoised("image", std=0.3, prob=0.2), RandTissueContrastd("image", prob=0.2)]
