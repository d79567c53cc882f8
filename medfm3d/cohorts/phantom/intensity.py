"""From tissues to CT numbers: contrast, texture, partial volumes, noise and streaks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medfm3d.cohorts.phantom.organ_tables import CONTRAST_PHASES, TISSUE_HU, ContrastPhase, Tissue
from medfm3d.cohorts.phantom.shapes import Array, Axes, SmoothField

LOWEST_HU, HIGHEST_HU = -1024, 3071  # 12 bits, as scanners store them
_BLUR_VOXELS = 0.5  # standard deviation of the averaging over neighbours
_AIR = (Tissue.OUTSIDE, Tissue.BOWEL_GAS, Tissue.STOMACH_GAS)
_TEXTURE_HU = {
    Tissue.LUNG: 35.0,
    Tissue.TRABECULAR_BONE: 30.0,
    Tissue.CORTICAL_BONE: 60.0,
    Tissue.OTHER_BONE: 60.0,
    Tissue.BOWEL: 14.0,
    Tissue.STOMACH_CONTENTS: 9.0,
    Tissue.URINE: 1.5,
}  # assumed; others 5
_VESSEL_LEVEL = 0.17  # assumed: gives the liver's vessels a width of a few millimetres
_ARTERIAL_SPLEEN_HU = 18.0  # assumed: the uneven early enhancement of the spleen


@dataclass(frozen=True)
class Lesion:
    """A ball of other density within some tissues."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    hu: float
    tissues: tuple[Tissue, ...]


def draw_tissue_hu(rng: np.random.Generator, phase: ContrastPhase) -> Array:
    """Mean CT number of each tissue in one case, by tissue, in HU. Both kidneys enhance alike."""
    column = CONTRAST_PHASES.index(phase)
    hu = np.array([rng.uniform(*TISSUE_HU[tissue][column]) for tissue in Tissue], dtype=np.float32)
    hu[Tissue.LEFT_CORTEX], hu[Tissue.LEFT_MEDULLA] = hu[Tissue.RIGHT_CORTEX], hu[Tissue.RIGHT_MEDULLA]
    return hu


def clean_image(
    tissue: NDArray[np.uint8], axes: Axes, rng: np.random.Generator, phase: ContrastPhase, lesions: list[Lesion]
) -> Array:
    """CT numbers with texture and partial volumes, still without noise, in HU."""
    scale = np.full(len(Tissue), 5.0, dtype=np.float32)
    scale[list(_TEXTURE_HU)] = list(_TEXTURE_HU.values())
    scale[list(_AIR)] = 0
    tissue_hu = draw_tissue_hu(rng, phase)
    image = tissue_hu[tissue]
    # Where two smooth fields are both near zero lie winding tubes: the vessels of the liver.
    vessels = np.hypot(SmoothField(rng, 32, rms=1.0)(axes), SmoothField(rng, 32, rms=1.0)(axes)) < _VESSEL_LEVEL
    image[vessels & (tissue == Tissue.LIVER)] = tissue_hu[Tissue.CAVAL_VEIN]
    image += scale[tissue] * SmoothField(rng, 11, rms=1.0)(axes)
    uneven = SmoothField(rng, 14, rms=_ARTERIAL_SPLEEN_HU)
    if phase == "arterial":
        image += np.where(tissue == Tissue.SPLEEN, uneven(axes), 0)
    for lesion in lesions:
        x, y, z = ((axis - c) ** 2 for axis, c in zip(axes, lesion.centre_mm, strict=True))
        ball = x[:, None, None] + y[None, :, None] + z[None, None, :] < lesion.radius_mm**2
        image[ball & np.isin(tissue, lesion.tissues)] = lesion.hu
    return ndimage.gaussian_filter(image, _BLUR_VOXELS, truncate=3)


def add_noise(image: Array, axes: Axes, rng: np.random.Generator, noise_hu: float) -> None:
    """Add noise of about this standard deviation in place: correlated in the axial plane, strongest in the middle."""
    noise = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), (0.6, 0.6, 0), truncate=3)
    x, y = axes[0][:, None], axes[1][None, :]
    radial = 0.75 + 0.5 * np.exp(-(x**2 + y**2) / 90**2)
    image += noise * (noise_hu * radial / noise.std())[..., None]


def add_streaks(image: Array, axes: Axes, rng: np.random.Generator) -> None:
    """Add a few bright and dark axial streaks in place, each through some slices, as dense bone leaves them."""
    x, y, z = axes
    for _ in range(rng.integers(2, 7)):
        angle, width, height = rng.uniform(0, np.pi), rng.uniform(2, 6), rng.uniform(6, 25)
        x0, y0, z0 = rng.uniform((-60, -70, -130), (60, 30, 130))
        away = (x[:, None] - x0) * np.sin(angle) - (y[None, :] - y0) * np.cos(angle)
        streak = rng.choice((-1, 1)) * rng.uniform(8, 30) * np.exp(-0.5 * (away / width) ** 2)
        profile = np.exp(-0.5 * ((z - z0) / height) ** 2)
        touched = np.flatnonzero(profile > 0.02)
        image[..., touched] += (streak[..., None] * profile[touched]).astype(np.float32)
