"""Where an annotator would click: in the middle of what was meant, then in the middle of the largest error."""

from typing import NamedTuple

import cc3d
import numpy as np
from scipy.ndimage import distance_transform_edt

from medfm3d.volumes import mask_box


class Click(NamedTuple):
    """One click: voxel and whether it belongs to the organ."""

    point: tuple[int, int, int]
    foreground: bool


def first_click(target: np.ndarray, rng: np.random.Generator | None = None) -> Click:
    """Return a click inside a mask.

    Args:
        target: (D, H, W) bool.
        rng: draws the voxel, deep ones more often; None for the deepest.

    Raises:
        ValueError: if the mask is empty.
    """
    if not target.any():
        raise ValueError("there is nothing to click on: the mask is empty")
    return Click(_inner_voxel(target, rng), True)


def next_click(target: np.ndarray, predicted: np.ndarray, rng: np.random.Generator | None = None) -> Click | None:
    """Return the click that corrects most: inside of the largest connected piece of what is missing or too much.

    As in the simulations of Isensee et al. 2025 (nnInteractive, section 3.4) and Sofiiuk et al. 2022 (RITM).

    Args:
        target: (D, H, W) bool.
        predicted: the same.
        rng: as of `first_click`.

    Returns:
        The click; None if the two are equal.
    """
    best, largest, foreground = None, 0, False
    for error, missing in ((target & ~predicted, True), (predicted & ~target, False)):
        pieces, count = cc3d.connected_components(error, connectivity=6, return_N=True)
        if count:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            if sizes.max() > largest:
                best, largest, foreground = pieces == sizes.argmax(), int(sizes.max()), missing
    return None if best is None else Click(_inner_voxel(best, rng), foreground)


def _inner_voxel(mask: np.ndarray, rng: np.random.Generator | None) -> tuple[int, int, int]:
    """Return the voxel farthest from the border, or one drawn by the square of the distance."""
    box = mask_box(mask)
    depth = distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1]
    if rng is None:
        flat = int(depth.argmax())
    else:
        chances = depth.ravel() ** 2
        flat = int(rng.choice(chances.size, p=chances / chances.sum()))
    inside = np.unravel_index(flat, depth.shape)
    i, j, k = (int(place) + part.start for place, part in zip(inside, box, strict=True))
    return i, j, k
