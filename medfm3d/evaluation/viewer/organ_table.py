"""Which organs a mask holds: size, place and colour of each, as the viewer's table shows them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from medfm3d.volumes import Volume
from medfm3d.volumes.palette import organ_colours


def organ_table(mask: Volume, organs: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return a row for each organ, also those that the mask lacks, and for each id of the mask that has no name.

    Args:
        mask: label map, (I, J, K), unsigned integers.
        organs: name and id of each organ.

    Returns:
        `organ`, `id`, `colour`, `voxels`, `volume_ml`, and `centre_voxel`: indices of a voxel of the organ in the
        middle of its largest section across the last axis, or None where there is no voxel.
    """
    boxes = find_objects(mask.array)
    unnamed = [number for number, box in enumerate(boxes, 1) if box and number not in organs.values()]
    named = {**organs, **{f"label {number}": number for number in unnamed}}
    colours = organ_colours(list(named))
    rows = []
    for organ, number in named.items():
        box = boxes[number - 1] if 0 < number <= len(boxes) else None
        inside = None if box is None else mask.array[box] == number
        voxels = 0 if inside is None else int(np.count_nonzero(inside))
        rows.append(
            {
                "organ": organ,
                "id": number,
                "colour": colours[organ],
                "voxels": voxels,
                "volume_ml": voxels * mask.voxel_volume_ml,
                "centre_voxel": None if inside is None else _centre(inside, [side.start for side in box]),
            }
        )
    return rows


def _centre(inside: np.ndarray, start: list[int]) -> list[int]:
    """Not the centre of mass, which in a curved or paired organ lies outside it."""
    section = int(inside.sum(axis=(0, 1)).argmax())
    places = np.argwhere(inside[..., section])
    i, j = places[((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return [int(i) + start[0], int(j) + start[1], section + start[2]]
