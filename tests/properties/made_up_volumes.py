"""Volumes of any shape, voxel size, orientation and place, as hypothesis draws them."""

import itertools

import nibabel as nib
import numpy as np
from hypothesis import strategies as st

from medfm3d.volumes import Volume

ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(["RL", "AP", "SI"]) for letters in itertools.product(*axes)
]
SIDES = st.integers(2, 9)
SHAPES = st.tuples(SIDES, SIDES, SIDES)
SPACINGS = st.tuples(*3 * [st.floats(0.4, 5.0).map(lambda size: round(size, 3))])


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """An affine of any orientation, voxel size and place; in half of the draws turned out of the patient's axes."""
    codes = draw(st.sampled_from(ORIENTATIONS))
    turn = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(tuple(codes)), (1, 1, 1))[:3, :3]
    angles = draw(st.just((0.0, 0.0, 0.0)) | st.tuples(*3 * [st.floats(-0.35, 0.35)]))
    place = draw(st.tuples(*3 * [st.floats(-500, 500)]))
    rotation = nib.eulerangles.euler2mat(*angles)
    return nib.affines.from_matvec(rotation @ turn @ np.diag(draw(SPACINGS)), place)


@st.composite
def volumes(draw: st.DrawFn, dtype: str | None = None, largest: int = 200) -> Volume:
    """A volume of random whole numbers, never all the same."""
    shape, affine = draw(SHAPES), draw(affines())
    kind = draw(st.sampled_from(["uint8", "int16", "float32"])) if dtype is None else dtype
    array = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, largest, shape).astype(kind)
    array[0, 0, 0], array[-1, -1, -1] = 0, 1
    return Volume(array, affine)
