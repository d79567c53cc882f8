"""The box around a mask."""

import numpy as np
from scipy.ndimage import find_objects


def mask_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box, a slice along each axis, that holds all voxels of a mask, at least one of them."""
    (box,) = find_objects(mask.astype(np.uint8))
    return box
