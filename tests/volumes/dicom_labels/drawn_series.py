"""A label map that is hard to draw, on series that are hard to place."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from dicom_series import write_series
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from medfm3d.volumes import Volume, read_volume
from medfm3d.volumes.dicom_labels import MadeBy

ORGANS = {"LeftParotid": 3, "mandible": 4, "печень": 9, "spleen": 12}  # of which the last one has no voxel
SHARED = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "PatientBirthDate", "StudyDate")
BUNDLE = MadeBy("head and neck", "0.3.1", "00ff00ff00ff00ff")
OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


class Drawn(NamedTuple):
    """A series and what is drawn on it."""

    series: Path
    labels: Volume


def hard_labels(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Draw holes within holes, islands in them, single voxels, lines a voxel wide, corners that touch, and the edge."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint16)
    labels[2:-3, 2:-3, 2:5], labels[4:-5, 4:-5, 2:5], labels[6:-8, 7:-7, 2:5] = 3, 0, 3
    labels[gaussian_filter(rng.random(shape), 1.2) > 0.55] = 4
    labels[0, :, 6:8], labels[:, -1, 7] = 9, 9
    speckle = rng.random(shape) > 0.8
    labels[..., 4:7][speckle[..., 4:7]] = 9
    labels[..., :2], labels[..., -1] = 0, 0  # slices without any organ
    return labels


def draw(folder: Path, shape: tuple[int, int, int], seed: int = 0, **how: object) -> Drawn:
    rng = np.random.default_rng(seed)
    series = write_series(folder, rng.integers(-200, 300, shape), **how)
    return Drawn(series, Volume(hard_labels(shape, seed), read_volume(series).affine))


PLACES = {
    "axial, several sizes": {"shape": (26, 22, 10), "spacing_mm": (0.7, 0.9, 3.0)},
    "oblique": {
        "shape": (21, 27, 11),
        "spacing_mm": (0.9, 0.6, 2.5),
        "directions": OBLIQUE,
        "backwards": True,
    },
    "sagittal": {"shape": (24, 20, 9), "spacing_mm": (1.1, 1.1, 4.0), "directions": SAGITTAL},
}
