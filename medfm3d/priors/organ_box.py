"""A box along R, A and S in which an organ can lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfm3d.volumes import mask_box


@dataclass(frozen=True)
class OrganBox:
    """A box in RAS millimetres.

    Attributes:
        low_mm, high_mm: its corners, along R, A and S.
    """

    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]

    def grown(self, margin_mm: float) -> "OrganBox":
        """Return the box with a margin at every face."""
        low, high = np.array(self.low_mm) - margin_mm, np.array(self.high_mm) + margin_mm
        return OrganBox(tuple(low.tolist()), tuple(high.tolist()))

    def slices(self, affine: np.ndarray, shape: Sequence[int]) -> tuple[slice, slice, slice] | None:
        """Return the voxels of a grid that lie in the box, or None if there are none.

        Args:
            affine: 4 x 4, from voxels to RAS millimetres; of an oblique grid, the voxels around the turned box.
            shape: (I, J, K).
        """
        ends = np.array([self.low_mm, self.high_mm])
        corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
        places = (corners - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        low = np.ceil(places.min(axis=0) - 0.5 + 1e-6).astype(int).clip(min=0)
        high = np.minimum(np.floor(places.max(axis=0) + 0.5 - 1e-6).astype(int) + 1, shape)
        if (low >= high).any():
            return None
        i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return i, j, k


def box_of_voxels(mask: np.ndarray, affine: np.ndarray) -> OrganBox | None:
    """Return the box around a mask (I, J, K) on a grid along R, A and S, voxels included; None around nothing."""
    if not mask.any():
        return None
    ends = (
        np.array([[side.start - 0.5, side.stop - 0.5] for side in mask_box(mask)]).T @ affine[:3, :3].T + affine[:3, 3]
    )
    return OrganBox(tuple(ends.min(axis=0).tolist()), tuple(ends.max(axis=0).tolist()))
