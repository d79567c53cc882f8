"""An organ of one support scan, kept at a few millimetres."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medfm3d.priors.packed_array import pack_array, unpack_array
from medfm3d.volumes import Volume

CUT_SHARE = 0.02  # of about an organ's surface voxels on the faces at the ends of an axis: it is cut along that axis


@dataclass(frozen=True, eq=False)
class OrganPlace:
    """Where an organ lies in one scan, in cells along R, A and S.

    Attributes:
        centre_mm: its centre of mass.
        share: (I, J, K) uint8, which share of each cell it fills, 255 for all.
        origin_mm: centre of the first cell.
        cell_mm: side of a cell.
    """

    centre_mm: np.ndarray
    share: np.ndarray
    origin_mm: np.ndarray
    cell_mm: float

    @property
    def affine(self) -> np.ndarray:
        """From cells to RAS millimetres."""
        affine = np.diag([self.cell_mm, self.cell_mm, self.cell_mm, 1.0])
        affine[:3, 3] = self.origin_mm
        return affine

    def to_json(self) -> dict[str, Any]:
        """Return the place as plain JSON values."""
        return {
            "centre_mm": self.centre_mm.tolist(),
            "origin_mm": self.origin_mm.tolist(),
            "cell_mm": self.cell_mm,
            **pack_array(self.share),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "OrganPlace":
        """Return a place from what `to_json` gave."""
        centre, origin = (np.array(stored[name], dtype=float) for name in ("centre_mm", "origin_mm"))
        return cls(centre, unpack_array(stored), origin, float(stored["cell_mm"]))


def place_organ(label: Volume, number: int, cell_mm: float | None) -> OrganPlace:
    """Return where the organ with an id lies in a label map; with no size of cells, its centre alone.

    Raises:
        ValueError: if the label map does not hold the organ.
    """
    voxels = np.argwhere(label.array == number)
    if not len(voxels):
        raise ValueError(f"{label.source or 'a label map'}: holds no voxel with id {number}")
    points = voxels @ label.affine[:3, :3].T + label.affine[:3, 3]
    centre = points.mean(axis=0)
    if cell_mm is None:
        return OrganPlace(centre, np.zeros((0, 0, 0), dtype=np.uint8), centre, 1.0)
    origin = points.min(axis=0)
    # A voxel larger than a cell fills several: it is counted in parts no larger than a cell.
    parts = np.ceil(np.array(label.spacing_mm) / cell_mm).astype(int)
    inner = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in parts], indexing="ij"), axis=-1)
    points = (points[:, None] + inner.reshape(-1, 3) @ label.affine[:3, :3].T).reshape(-1, 3)
    cells = np.rint((points - origin) / cell_mm).astype(int)
    first = cells.min(axis=0)
    sides = cells.max(axis=0) - first + 1
    counts = np.bincount(np.ravel_multi_index((cells - first).T, sides), minlength=int(sides.prod())).reshape(sides)
    filled = counts * (label.voxel_volume_ml * 1000 / parts.prod() / cell_mm**3)
    share = np.rint(filled.clip(0, 1) * 255).astype(np.uint8)
    return OrganPlace(centre, share, origin + first * cell_mm, float(cell_mm))


def cut_axes(label: Volume, number: int) -> np.ndarray:
    """Return along which of R, A and S the scan's faces cut an organ, (3,) bool."""
    mask = label.array == number
    surface = 6 * float(mask.sum()) ** (2 / 3)
    cut = np.zeros(3, dtype=bool)
    nearest = np.abs(label.affine[:3, :3] / np.array(label.spacing_mm)).argmax(axis=0)
    for axis in range(3):
        faces = np.moveaxis(mask, axis, 0)[[0, -1]]
        cut[nearest[axis]] |= int(faces.sum()) > CUT_SHARE * surface
    return cut
