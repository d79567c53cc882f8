"""What surrounds the organs: skin, fat, muscle, lungs, heart and the bones that carry no label."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfm3d.cohorts.phantom.organ_tables import Tissue
from medfm3d.cohorts.phantom.shapes import Array, Points, ellipsoid

SPINE_END_MM = -76.0  # the last vertebra ends here; the bone below it is the sacrum, which has no label
VERTEBRA_PITCH_MM, DISC_HEIGHT_MM = 34.0, 7.0
_CAVITY_CENTRE_Y_MM = 8.0
_HEART = ellipsoid((-16, 28, 142), (52, 44, 44))


@dataclass(frozen=True)
class Trunk:
    """The body's wall and what lies beyond the diaphragm.

    It is an elliptical cylinder 288 mm high. A real trunk is longer: the distance from diaphragm to bladder is
    shortened here so that all organs, at their true size, fit into the default field of view.
    """

    cavity_mm: tuple[float, float]  # half width and half depth of the abdominal cavity
    muscle_mm: float
    fat_mm: float
    dome_mm: tuple[float, float]  # height of the right and the left diaphragm

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Trunk":
        """A random trunk; its measures are assumptions of this project."""
        return cls(
            cavity_mm=(rng.uniform(106, 112), rng.uniform(82, 89)),
            muscle_mm=rng.uniform(7, 11),
            fat_mm=rng.uniform(4, 11),
            dome_mm=(rng.uniform(106, 118), rng.uniform(98, 110)),
        )

    def tissues(self, points: Points) -> NDArray[np.uint8]:
        """Tissue of each point, the cavity still filled with fat."""
        x, y, z = points
        beyond, towards_back, to_side = self._beyond_cavity(x, y)
        muscle = self.muscle_mm + 21 * towards_back
        surface = muscle + self.fat_mm * (1 + 0.4 * towards_back)
        tissue = np.full(x.shape, Tissue.VISCERAL_FAT, dtype=np.uint8)

        above_dome = z - self._dome(x, y)
        tissue[above_dome > -4] = Tissue.MUSCLE
        tissue[above_dome > 0] = Tissue.LUNG
        tissue[(above_dome > 0) & (np.abs(x) < 26) & (y < -8)] = Tissue.VISCERAL_FAT  # behind the heart
        tissue[(above_dome > -4) & (_HEART(points) < 1)] = Tissue.HEART
        psoas = ((np.abs(x) - 34) / 15) ** 2 + ((y + 50) / 16) ** 2
        tissue[(psoas < 1) & (z < 0)] = Tissue.MUSCLE

        tissue[beyond > 0] = Tissue.MUSCLE
        in_wall = (beyond > 1.5) & (beyond < 7)
        rib = np.sin((z + 0.55 * y - 0.2 * np.abs(x)) * (2 * np.pi / 27)) > 0.45
        tissue[in_wall & rib & (z > 15 + 0.35 * y)] = Tissue.OTHER_BONE
        tissue[in_wall & (z < -62 - 0.5 * y) & (to_side > 0.25) & (y < 25)] = Tissue.OTHER_BONE  # wings of the ilium
        tissue[beyond > muscle] = Tissue.FAT
        tissue[beyond > surface] = Tissue.SKIN
        tissue[beyond > surface + 2.5] = Tissue.OUTSIDE
        return tissue

    def _beyond_cavity(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Distance beyond the cavity's wall in mm, and how far a point lies to the back and to a side, 0 to 1."""
        u, v = x / self.cavity_mm[0], (y - _CAVITY_CENTRE_Y_MM) / self.cavity_mm[1]
        radius = np.sqrt(u**2 + v**2) + np.float32(1e-6)
        distance = np.hypot(x, y - _CAVITY_CENTRE_Y_MM)
        return distance * (1 - 1 / radius), np.clip(-v / radius, 0, 1) ** 2, (u / radius) ** 2

    def _dome(self, x: Array, y: Array) -> Array:
        right, left = self.dome_mm
        back = 42 * ((y - 5) / 78) ** 2
        return np.maximum(right - 48 * ((x - 46) / 62) ** 2, left - 48 * ((x + 52) / 60) ** 2) - back


def add_spine(tissue: NDArray[np.uint8], points: Points) -> None:
    """Put vertebrae, discs, spinal canal and sacrum into a tissue map, in place.

    The bodies are parted by discs; the arches behind them touch, as the joints of real vertebrae do.
    """
    x, y, z = points
    height = np.mod(z, VERTEBRA_PITCH_MM)
    waist = 1 + 0.08 * np.cos(height * (2 * np.pi / VERTEBRA_PITCH_MM))
    body = np.sqrt((x / 22) ** 2 + ((y + 49) / 16.5) ** 2) / waist
    canal = np.hypot(x / 1.2, y + 74)
    disc = height < DISC_HEIGHT_MM
    level_of_arch = (height > 10) & (height < 27)
    spinous = (np.abs(x) < 4) & (y < -86) & (y > -103) & level_of_arch
    transverse = (np.abs(x) < 36) & (np.abs(y + 72) < 4.5) & level_of_arch & (height < 20)
    arch = (canal < 17) | spinous | transverse
    tissue[arch] = Tissue.CORTICAL_BONE
    tissue[(canal < 15) & (np.abs(x) > 10)] = Tissue.TRABECULAR_BONE
    near_end = (height < DISC_HEIGHT_MM + 2) | (height > VERTEBRA_PITCH_MM - 2)
    tissue[body < 1] = Tissue.TRABECULAR_BONE
    tissue[(body < 1) & ((body > 0.86) | near_end)] = Tissue.CORTICAL_BONE
    tissue[(body < 1) & disc] = Tissue.DISC
    tissue[canal < 9] = Tissue.SPINAL_CANAL
    bone = (tissue == Tissue.CORTICAL_BONE) | (tissue == Tissue.TRABECULAR_BONE)
    tissue[bone & (z < SPINE_END_MM)] = Tissue.OTHER_BONE
