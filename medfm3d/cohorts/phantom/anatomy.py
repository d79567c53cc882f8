"""One random patient: a function from millimetres to tissues, the same on every grid."""

from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from medfm3d.cohorts.phantom.organ_tables import ORGAN_TISSUES, VOLUME_SPREAD, Tissue, reference_volume_ml
from medfm3d.cohorts.phantom.organs import CAVAL_VEIN, KIDNEY_CORTEX_LEVEL, draw_aorta, draw_organs
from medfm3d.cohorts.phantom.shapes import Array, Axes, Points, SmoothField, rotation_matrix
from medfm3d.cohorts.phantom.trunk import Trunk, add_spine

_SURVEY_SPACING_MM = 6.0  # of the coarse grid on which the sizes of the organs are set
_SURVEY_EXTENT_MM = 288.0
_LARGEST_LEVEL = 2.2  # an organ never grows beyond this multiple of the size it was laid out with
_MARGIN_MM = 10.0  # around an organ found on the coarse grid, for drawing it on a finer one


def grid_axes(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Axes:
    """Coordinates of the planes of a grid centred on the origin, in mm."""
    x, y, z = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True))
    return x, y, z


@dataclass(frozen=True)
class _Extent:
    """How far an organ reaches: its level's threshold and the box, in mm, that holds it."""

    threshold: float
    low_mm: NDArray[np.float64]
    high_mm: NDArray[np.float64]
    gas_above_mm: float

    def box(self, axes: Axes) -> tuple[slice, slice, slice]:
        i, j, k = (
            slice(int(np.searchsorted(axis, low)), int(np.searchsorted(axis, high, side="right")))
            for axis, low, high in zip(axes, self.low_mm, self.high_mm, strict=True)
        )
        return i, j, k


class Anatomy:
    """A random patient: pose, body wall, organ shapes and organ sizes.

    Each organ's volume is drawn around the reference adult's; the threshold of its level is then set on a coarse survey
    grid such that the space left to it by its neighbours holds that volume. An organ that they crowd (about 1 liver in
    20) stays smaller than was drawn. On other grids the thresholds are the same.

    Args:
        rng: draws the patient.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.sex: Literal["male", "female"] = "male" if rng.random() < 0.5 else "female"
        self.volumes_ml = {
            organ: reference_volume_ml(organ, self.sex) * float(np.exp(rng.normal(-(spread**2) / 2, spread)))
            for organ, spread in VOLUME_SPREAD.items()
        }
        self._turn = rotation_matrix(rng.normal(0, (0.025, 0.025, 0.06)))
        self._scale = rng.uniform(0.94, 1.0)
        self._shift_mm = rng.normal(0, (3, 3, 2)).clip(-5, 5)
        self._warp = [SmoothField(rng, 60, rms=3.0) for _ in range(3)]
        self._trunk = Trunk.draw(rng)
        self._aorta = draw_aorta(rng)
        self._organs = draw_organs(rng)
        self._bowel = SmoothField(rng, 26, rms=1.0)
        self._stomach_gas = rng.uniform(0, 0.25)
        self._extents: dict[str, _Extent] = {}
        spacing = (_SURVEY_SPACING_MM,) * 3
        shape = (round(_SURVEY_EXTENT_MM / _SURVEY_SPACING_MM),) * 3
        self.survey_axes = grid_axes(shape, spacing)
        self.survey = self.tissues(self.survey_axes)

    def tissues(self, axes: Axes) -> NDArray[np.uint8]:
        """`Tissue` of each voxel of the grid of these planes, (I, J, K)."""
        points = self._patient_coordinates(axes)
        tissue = self._trunk.tissues(points)
        add_spine(tissue, points)
        self._aorta_and_vein(tissue, points)
        for organ in self._organs:
            if organ not in self._extents:  # on the survey grid alone: the first that is drawn
                self._extents[organ] = self._measure(organ, tissue, points, axes)
            self._draw(organ, tissue, points, axes)
        bowel = self._bowel(axes)
        space = (tissue == Tissue.VISCERAL_FAT) & (points[1] > -28) & (points[2] < 30)
        tissue[space & (bowel > 0.1)] = Tissue.BOWEL
        tissue[space & (bowel > 1.5)] = Tissue.BOWEL_GAS
        return tissue

    def _patient_coordinates(self, axes: Axes) -> Points:
        """Where each voxel lies in the upright, unwarped patient."""
        matrix = (self._turn.T / self._scale).astype(np.float32)
        x, y, z = (axis - np.float32(shift) for axis, shift in zip(axes, self._shift_mm, strict=True))
        i, j, k = (
            row[0] * x[:, None, None] + row[1] * y[None, :, None] + row[2] * z[None, None, :] + warp(axes)
            for row, warp in zip(matrix, self._warp, strict=True)
        )
        return i, j, k

    def _aorta_and_vein(self, tissue: NDArray[np.uint8], points: Points) -> None:
        middle = np.abs(points[0]) < 45
        near = tuple(coordinate[middle] for coordinate in points)
        here = tissue[middle]
        soft = np.isin(here, (Tissue.VISCERAL_FAT, Tissue.MUSCLE, Tissue.LUNG, Tissue.HEART))
        here[soft & (CAVAL_VEIN(near) < 1)] = Tissue.CAVAL_VEIN
        soft |= here == Tissue.CAVAL_VEIN
        here[soft & (self._aorta(near) < 1)] = Tissue.AORTA
        tissue[middle] = here

    def _measure(self, organ: str, tissue: NDArray[np.uint8], points: Points, axes: Axes) -> _Extent:
        level = self._organs[organ](points, axes)
        free = tissue == Tissue.VISCERAL_FAT
        wanted = round(self.volumes_ml[organ] * 1000 / _SURVEY_SPACING_MM**3)
        candidates = np.sort(level[free & (level < _LARGEST_LEVEL)])
        threshold = float(candidates[min(wanted, len(candidates) - 1)])
        places = np.argwhere(free & (level < threshold))
        low, high = (
            np.array([axis[i] for axis, i in zip(axes, corner, strict=True)])
            for corner in (places.min(axis=0), places.max(axis=0))
        )
        gas = np.quantile(axes[1][places[:, 1]], 1 - self._stomach_gas)
        return _Extent(threshold, low - _MARGIN_MM, high + _MARGIN_MM, float(gas))

    def _draw(self, organ: str, tissue: NDArray[np.uint8], points: Points, axes: Axes) -> None:
        extent = self._extents[organ]
        box = extent.box(axes)
        here = tissue[box]
        if here.size == 0:  # the field of view ends before this organ
            return
        near: Points = tuple(coordinate[box] for coordinate in points)
        near_axes: Axes = tuple(axis[part] for axis, part in zip(axes, box, strict=True))
        level: Array = self._organs[organ](near, near_axes) / extent.threshold
        inside = (here == Tissue.VISCERAL_FAT) & (level < 1)
        inside = cc3d.largest_k(inside, k=1, connectivity=6) > 0
        parts = ORGAN_TISSUES[organ]
        here[inside] = parts[0]
        if organ.endswith("kidney"):
            here[inside & (level < KIDNEY_CORTEX_LEVEL)] = parts[1]
        elif organ == "stomach":
            core = inside & (level < 0.84)
            here[core] = parts[1]
            here[core & (near_axes[1][None, :, None] > extent.gas_above_mm)] = parts[2]
        elif organ == "bladder":
            here[inside & (level < 0.91)] = parts[1]
