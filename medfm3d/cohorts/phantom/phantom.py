"""A procedural abdominal CT phantom: image and exact labels from a seed."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medfm3d.cohorts.phantom.anatomy import Anatomy, grid_axes
from medfm3d.cohorts.phantom.intensity import HIGHEST_HU, LOWEST_HU, Lesion, add_noise, add_streaks, clean_image
from medfm3d.cohorts.phantom.organ_tables import (
    CONTRAST_PHASES,
    ORGAN_TISSUES,
    PHANTOM_ORGANS,
    ContrastPhase,
    Tissue,
)
from medfm3d.volumes import Volume


class AbdominalPhantom:
    """Draws synthetic abdominal CT of random adults with exact outlines of nine organs.

    Organ volumes follow ICRP Publication 89, CT numbers the table in `organ_tables`, where each figure names its source
    or is called an assumption. It serves tests, demonstrations and ablations; it is no substitute for patients.

    The trunk is shortened to 288 mm along z, the default field of view. A patient depends on the seed alone: other
    shapes and spacings show the same patient with other voxels. A smaller field of view cuts off what lies outside it.

    Args:
        shape: voxels along right, anterior and superior.
        spacing_mm: voxel size, one for all axes or one for each.
        pathologies: add liver lesions and a renal cyst; they keep their organ's label.
        contrast_phase: one phase for all cases, or "random": drawn for each.
        noise_hu: standard deviation of the noise in the middle of an average case; it varies by a third between cases.
        streaks: add streak artefacts.

    Raises:
        ValueError: if the shape, the spacing, the phase or the noise is not possible.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (96, 96, 96),
        spacing_mm: float | tuple[float, float, float] = 3.0,
        *,
        pathologies: bool = False,
        contrast_phase: Literal["random"] | ContrastPhase = "random",
        noise_hu: float = 15.0,
        streaks: bool = True,
    ) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.spacing_mm = tuple(float(size) for size in np.broadcast_to(spacing_mm, 3))
        if len(self.shape) != 3 or min(self.shape) < 2:
            raise ValueError(f"shape {shape}: give three sizes of at least 2 voxels")
        if min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing_mm {spacing_mm}: give sizes above 0 mm")
        if contrast_phase not in ("random", *CONTRAST_PHASES):
            raise ValueError(f"contrast_phase {contrast_phase!r}: choose random, {', '.join(CONTRAST_PHASES)}")
        if noise_hu < 0:
            raise ValueError(f"noise_hu {noise_hu}: give 0 or more")
        self.pathologies = pathologies
        self.contrast_phase = contrast_phase
        self.noise_hu = float(noise_hu)
        self.streaks = streaks

    def generate(self, seed: int) -> tuple[Volume, Volume]:
        """Image (int16, HU) and labels (uint8, ids of `PHANTOM_ORGANS`) of one patient, in RAS, centred at the origin.

        Args:
            seed: 0 or more; equal seeds give equal patients and images.
        """
        # One generator a purpose: lesions, noise or streaks switched on or off leave everything else as it was.
        body, look, noise, streaks, lesions = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5))
        anatomy = Anatomy(body)
        axes = grid_axes(self.shape, self.spacing_mm)
        tissue = anatomy.tissues(axes)
        drawn_phase = CONTRAST_PHASES[look.integers(len(CONTRAST_PHASES))]
        phase = drawn_phase if self.contrast_phase == "random" else self.contrast_phase
        image = clean_image(tissue, axes, look, phase, draw_lesions(anatomy, lesions) if self.pathologies else [])
        case_noise_hu = self.noise_hu * noise.uniform(0.67, 1.33)
        if case_noise_hu > 0:
            add_noise(image, axes, noise, case_noise_hu)
        if self.streaks:
            add_streaks(image, axes, streaks)
        affine = np.diag([*self.spacing_mm, 1.0])
        affine[:3, 3] = [axis[0] for axis in axes]
        return (
            Volume(np.rint(image).clip(LOWEST_HU, HIGHEST_HU).astype(np.int16), affine),
            Volume(_LABEL_OF_TISSUE[tissue], affine),
        )


def draw_lesions(anatomy: Anatomy, rng: np.random.Generator) -> list[Lesion]:
    """One to four liver lesions, darker or brighter than the liver, and a cyst of one kidney; sizes are assumed."""
    lesions = []
    for _ in range(rng.integers(1, 5)):
        hu = rng.uniform(10, 45) if rng.random() < 0.75 else rng.uniform(130, 170)
        lesions.append(_lesion(anatomy, rng, rng.uniform(6, 18), hu, ORGAN_TISSUES["liver"]))
    kidney = ORGAN_TISSUES["right_kidney" if rng.random() < 0.5 else "left_kidney"]
    lesions.append(_lesion(anatomy, rng, rng.uniform(8, 18), rng.uniform(0, 15), kidney))
    return lesions


def _lesion(
    anatomy: Anatomy, rng: np.random.Generator, radius_mm: float, hu: float, tissues: tuple[Tissue, ...]
) -> Lesion:
    i, j, k = rng.choice(np.argwhere(np.isin(anatomy.survey, tissues)))
    x, y, z = anatomy.survey_axes
    return Lesion((float(x[i]), float(y[j]), float(z[k])), float(radius_mm), float(hu), tissues)


def _label_of_tissue() -> NDArray[np.uint8]:
    labels = np.zeros(len(Tissue), dtype=np.uint8)
    for organ, tissues in ORGAN_TISSUES.items():
        labels[list(tissues)] = PHANTOM_ORGANS[organ]
    return labels


_LABEL_OF_TISSUE = _label_of_tissue()
