"""The box around a mask."""

import numpy as np

from medfm3d.volumes import mask_box


def test_the_box_holds_all_voxels_and_no_empty_face() -> None:
    mask = np.zeros((9, 8, 7), dtype=bool)
    mask[2, 3, 0] = mask[6, 4, 5] = True
    assert mask_box(mask) == (slice(2, 7), slice(3, 5), slice(0, 6))
