"""The phantom's liver stays where a liver can be, however large it is drawn."""

import numpy as np
import pytest
from scipy import ndimage

from medfm3d.cohorts import PHANTOM_ORGANS, AbdominalPhantom


@pytest.mark.parametrize("seed", [3, 5, 26, 42])  # livers that are large or have little space
def test_the_liver_leaves_spine_vessels_and_pancreas_in_their_fat(seed: int) -> None:
    _, label = AbdominalPhantom((72, 72, 72), 4.0).generate(seed)
    liver, aorta, pancreas = (label.array == PHANTOM_ORGANS[organ] for organ in ("liver", "aorta", "pancreas"))
    i, j, _ = np.argwhere(aorta).mean(axis=0).round().astype(int)
    behind_and_left_of_the_aorta_ml = liver[: i + 1, : j + 1].sum() * label.voxel_volume_ml
    assert behind_and_left_of_the_aorta_ml < 5
    around_pancreas = ndimage.binary_dilation(pancreas) & ~pancreas
    assert liver[around_pancreas].mean() < 0.5
    assert not liver[..., -6:].any()  # the highest 24 mm are chest
