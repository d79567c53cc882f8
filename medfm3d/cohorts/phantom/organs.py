"""The organs' shapes and places. Axes: x to the patient's right, y to the front, z to the head, in mm."""

from dataclasses import dataclass

import numpy as np

from medfm3d.cohorts.phantom.organ_tables import AORTA_DIAMETER_MM, AORTA_SPREAD
from medfm3d.cohorts.phantom.shapes import (
    Axes,
    Level,
    Points,
    SmoothField,
    ellipsoid,
    rotation_matrix,
    smooth_union,
    tube,
)

# The order in which organs take their place: a later one yields to those before it.
DRAWING_ORDER = ("right_kidney", "left_kidney", "spleen", "pancreas", "stomach", "liver", "bladder")
KIDNEY_CORTEX_LEVEL = 0.74  # the cortex is what lies beyond this share of a kidney's radius
CAVAL_VEIN = tube(((14, -24, -80), (17, -22, 20), (22, -4, 88), (22, 2, 144)), (10, 11, 12, 12))


@dataclass(frozen=True)
class OrganShape:
    """An organ of one patient: its level and the unevenness of its surface."""

    level: Level
    coarse: SmoothField
    fine: SmoothField

    def __call__(self, points: Points, axes: Axes) -> np.ndarray:
        """Level at points that belong to the grid of these planes."""
        return self.level(points) * (1 + self.coarse(axes) + self.fine(axes))


def draw_organs(rng: np.random.Generator) -> dict[str, OrganShape]:
    """Random shapes of all organs whose size is set by a volume, in drawing order.

    Places, proportions and their spread are assumptions of this project, made to resemble an axial CT.
    """
    draw = {
        "right_kidney": lambda: _kidney(rng, side=1, height_mm=-14),
        "left_kidney": lambda: _kidney(rng, side=-1, height_mm=6),
        "spleen": lambda: _ellipsoid(rng, (-76, -24, 58), (24, 36, 44), tilt=(0.25, -0.25, -0.45)),
        "pancreas": lambda: _pancreas(rng),
        "liver": lambda: _liver(rng),
        "stomach": lambda: _stomach(rng),
        "bladder": lambda: _ellipsoid(rng, (0, 26, -100), (38, 34, 32)),
    }
    return {
        name: OrganShape(draw[name](), SmoothField(rng, 55, rms=0.06), SmoothField(rng, 24, rms=0.035))
        for name in DRAWING_ORDER
    }


def draw_aorta(rng: np.random.Generator) -> Level:
    """Level of an aorta, in front of the spine and left of the midline, down to its bifurcation."""
    scale = 0.5 * np.exp(rng.normal(0, AORTA_SPREAD))
    upper, middle, lower = (AORTA_DIAMETER_MM[where] * scale for where in ("coeliac", "suprarenal", "bifurcation"))
    path = ((-14, -26, 175), (-13, -22, 90), (-11, -19, 30), (-8, -19, -62))
    bend = np.concatenate([rng.normal(0, (2, 1.5), (4, 2)), np.zeros((4, 1))], axis=1)
    return tube(np.add(path, bend), (upper, upper, middle, lower))


def _place(rng: np.random.Generator, centre: tuple[float, float, float], spread_mm: float = 3.0) -> np.ndarray:
    return np.asarray(centre) + rng.normal(0, spread_mm, 3)


def _ellipsoid(
    rng: np.random.Generator,
    centre: tuple[float, float, float],
    semi_axes: tuple[float, float, float],
    tilt: tuple[float, float, float] = (0, 0, 0),
) -> Level:
    turn = rotation_matrix(np.asarray(tilt) + rng.normal(0, 0.1, 3))
    return ellipsoid(_place(rng, centre), np.asarray(semi_axes) * np.exp(rng.normal(0, 0.07, 3)), turn)


def _kidney(rng: np.random.Generator, side: int, height_mm: float) -> Level:
    centre = _place(rng, (side * 57, -36, height_mm), 2.5)
    turn = rotation_matrix(np.add((-0.2, -side * 0.22, side * 0.5), rng.normal(0, 0.08, 3)))
    kidney = ellipsoid(centre, np.array([27, 23, 53]) * np.exp(rng.normal(0, 0.06, 3)), turn)
    hilum = ellipsoid(centre + turn @ [-side * 25, 4, 0], (15, 10, 19), turn)

    def level(points: Points) -> np.ndarray:
        return kidney(points) + 0.75 * np.exp(-(hilum(points) ** 2))

    return level


def _liver(rng: np.random.Generator) -> Level:
    right = _ellipsoid(rng, (52, 6, 48), (56, 66, 76), tilt=(0, -0.12, 0))
    left = _ellipsoid(rng, (2, 40, 72), (52, 34, 32), tilt=(0, 0.25, 0))
    both = smooth_union(right, left)

    def level(points: Points) -> np.ndarray:
        x, y, _ = points
        # Spine, great vessels and pancreas lie in fat behind the peritoneum, from which the liver is kept out.
        beside_spine = np.hypot((x + 6) / 48, (y + 30) / 56)
        return both(points) + 1.5 * np.clip((1 - beside_spine) / 0.25, 0, 1)

    return level


def _stomach(rng: np.random.Generator) -> Level:
    path = np.array([(-46, -6, 76), (-50, 14, 50), (-38, 36, 24), (-12, 46, 8), (14, 44, 10)], dtype=np.float64)
    path[1:] += rng.normal(0, 4, (4, 3))
    return tube(path, np.array([31, 30, 26, 21, 15]) * np.exp(rng.normal(0, 0.08, 5)))


def _pancreas(rng: np.random.Generator) -> Level:
    path = np.array([(30, 6, -14), (26, 8, 6), (4, 12, 22), (-24, 0, 30), (-56, -14, 42)], dtype=np.float64)
    path += rng.normal(0, 2.5, (5, 3))
    return tube(path, np.array([14, 15, 11, 12, 10]) * np.exp(rng.normal(0, 0.08, 5)))
