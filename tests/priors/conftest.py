"""A made-up head and trunk in CT, cut at different heights, with a pair of organs and one between them."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medfm3d.volumes import Volume

BODY_ORGANS = {"LeftGland": 4, "RightGland": 2, "Core": 7}
SPACING_MM = np.array([4.0, 4.0, 5.0])


def draw_body(seed: int, low: int = 0, high: int = 60, air: int = 3) -> tuple[Volume, Volume]:
    """Scan and label: a round head on a neck on wide shoulders, seen from slice `low` to `high` of 60.

    Places are jittered by a few millimetres; the scan's origin is arbitrary. R is the direction of the first axis.
    """
    rng = np.random.default_rng(seed)
    shape = (60, 40, 60)
    x, y, z = (grid.astype(float) for grid in np.indices(shape))
    x0, y0, z0 = 30 + rng.uniform(-2, 2), 20 + rng.uniform(-2, 2), rng.uniform(-1, 1)
    head = ((x - x0) / 10) ** 2 + ((y - y0) / 12) ** 2 + ((z - 46 - z0) / 11) ** 2 < 1
    neck = (((x - x0) / 7) ** 2 + ((y - y0) / 8) ** 2 < 1) & (z > 18) & (z < 46)
    trunk = (((x - x0) / 24) ** 2 + ((y - y0) / 13) ** 2 < 1) & (z < 22 + z0)
    skull = ((x - x0) / 9) ** 2 + ((y - y0) / 11) ** 2 + ((z - 47 - z0) / 10) ** 2 < 1
    hu = np.full(shape, -1000.0)
    hu[head | neck | trunk] = 40
    hu[head & ~skull] = 500
    spine = (((x - x0) / 2) ** 2 + ((y - y0 + 4) / 2) ** 2 < 1) & (z < 40)
    hu[spine] = 350
    label = np.zeros(shape, dtype=np.uint8)
    places = {"LeftGland": (-5, 2, 34), "RightGland": (5, 2, 34), "Core": (0, 2, 34)}
    radii = {"LeftGland": (2.2, 3, 4), "RightGland": (2.2, 3, 4), "Core": (3.6, 3, 4)}
    for organ, number in BODY_ORGANS.items():
        centre = np.array(places[organ]) + np.array([x0, y0, z0]) + rng.uniform(-0.5, 0.5, 3)
        inside = sum(((grid - c) / r) ** 2 for grid, c, r in zip((x, y, z), centre, radii[organ], strict=True)) < 1
        label[inside & (label == 0)] = number
        hu[inside] = 80
    image = gaussian_filter(hu, 0.6) + rng.normal(0, 8, shape)
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    seen = slice(low, high)
    affine[2, 3] += low * SPACING_MM[2]
    image[:air] = image[-air:] = -1000
    return Volume(image[:, :, seen].astype(np.float32), affine), Volume(label[:, :, seen], affine)


@pytest.fixture(scope="session")
def body_organs() -> dict[str, int]:
    return BODY_ORGANS


@pytest.fixture(scope="session")
def body() -> Callable[..., tuple[Volume, Volume]]:
    return draw_body


@pytest.fixture(scope="session")
def bodies() -> list[tuple[Volume, Volume]]:
    """Five support scans, two of them cut at the top or at the bottom."""
    return [draw_body(0), draw_body(1, low=8), draw_body(2, high=52), draw_body(3), draw_body(4)]
