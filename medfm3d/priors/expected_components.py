"""Optional clean-up of masks by what priors expect, with a list of everything that it changes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cc3d
import numpy as np

from medfm3d.priors.components_prior import ComponentsPrior
from medfm3d.volumes import Volume


@dataclass(frozen=True)
class Change:
    """A piece of an organ's mask that was removed.

    Attributes:
        organ: the organ's name.
        voxels: size of the piece.
        volume_ml: the same in mL.
        centre_mm: its centre of mass, RAS.
    """

    organ: str
    voxels: int
    volume_ml: float
    centre_mm: tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        """Return the change as plain JSON values."""
        return asdict(self)


def keep_expected_components(
    label: Volume, organs: Mapping[str, int], prior: ComponentsPrior
) -> tuple[Volume, list[Change]]:
    """Keep of each organ as many pieces as are not improbable, the largest ones, and list the others.

    Args:
        label: a mask; it is left as it is.
        organs: label id of each organ.
        prior: fitted prior on the number of pieces.

    Returns:
        The mask without the other pieces, and one change for each of them, largest first. With nothing to remove the
        very same mask.
    """
    array, changes = label.array, []
    for organ, number in organs.items():
        pieces, count = cc3d.connected_components(
            np.ascontiguousarray(label.array == number), connectivity=26, return_N=True
        )
        expected = prior.tolerated_count(organ)
        if expected is None or count <= expected:
            continue
        statistics = cc3d.statistics(pieces)
        sizes, centroids = statistics["voxel_counts"], statistics["centroids"]
        removed = sorted(range(1, count + 1), key=lambda piece: -int(sizes[piece]))[expected:]
        array = array.copy() if array is label.array else array
        array[np.isin(pieces, removed)] = 0
        for piece in removed:
            centre = label.affine[:3, :3] @ centroids[piece] + label.affine[:3, 3]
            voxels = int(sizes[piece])
            changes.append(Change(organ, voxels, voxels * label.voxel_volume_ml, tuple(float(c) for c in centre)))
    return (Volume(array, label.affine, label.source) if changes else label), changes
