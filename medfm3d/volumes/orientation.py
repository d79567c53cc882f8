"""Turning a volume's axes without touching a voxel's value or place."""

import nibabel as nib
import numpy as np

from medfm3d.volumes.volume import Volume


def reorient(volume: Volume, orientation: str = "RAS") -> Volume:
    """Return the volume with its axes permuted and flipped so that they point as named; nothing is interpolated.

    Args:
        volume: any volume; axes of an oblique one are taken for the nearest of the patient's.
        orientation: a permutation of R or L, A or P, S or I.

    Raises:
        ValueError: for any other orientation.
    """
    pairs = ("RL", "AP", "SI")
    named = [next((n for n, pair in enumerate(pairs) if letter in pair), None) for letter in orientation]
    if len(orientation) != 3 or set(named) != {0, 1, 2}:
        raise ValueError(f"unknown orientation {orientation!r}: name one of R/L, A/P and S/I each, such as RAS")
    now = nib.io_orientation(volume.affine)
    wanted = nib.orientations.axcodes2ornt(tuple(orientation))
    change = nib.orientations.ornt_transform(now, wanted)
    if np.array_equal(change, [[0, 1], [1, 1], [2, 1]]):
        return volume
    array = nib.orientations.apply_orientation(volume.array, change)
    return Volume(array, volume.affine @ nib.orientations.inv_ornt_aff(change, volume.shape), volume.source)
