"""Label maps that do not fit, as `medfm3d evaluate` and `adapt` read them."""

from pathlib import Path

import numpy as np
from fault import GOOD_SHAPE, faults_of
from nifti_faults import AFFINE, save, voxels

from medfm3d.volumes import check_same_grid, read_label, read_volume


def label(*values: float, dtype: str = "float32") -> np.ndarray:
    array = np.zeros(GOOD_SHAPE, dtype=dtype)
    for number, value in enumerate(values):
        array[2 * number + 1 : 2 * number + 3, 2:6, 2:6] = value
    return array


def read(array: np.ndarray, affine: np.ndarray = AFFINE):
    """Read a label map with ids 1 and 2 that belongs to a scan."""

    def provoke(path: Path) -> None:
        image = path.with_name("scan.nii.gz")
        save(image, voxels())
        save(path, array, affine)
        check_same_grid(read_volume(image), read_label(path, [1, 2]))

    return provoke


MOVED = AFFINE + np.array([[0, 0, 0, 3.0]] + 3 * [[0, 0, 0, 0]])
LABELS = faults_of(
    ("fractions in a label map", "are not integers; resample label maps by nearest neighbour", read(label(1, 0.5))),
    ("negative ids in a label map", "label values run from -1 to 1; use ids from 1 to 65535", read(label(1, -1))),
    ("ids above 65535", "label values run from 0 to 70000", read(label(1, 70000, dtype="int32"))),
    ("unknown organs in a label map", "label values [7] are not among [1, 2]; name these organs", read(label(1, 7))),
    ("label map of another shape", "has 10 x 11 x 10 voxels, its image", read(label(1)[:10])),
    ("label map in another place", "lies up to 3 mm from its image", read(label(1, 2), MOVED)),
    suffix=".nii.gz",
)
