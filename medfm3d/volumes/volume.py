"""One scan: an array that never parts from its place in the patient."""

from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan or label map with its geometry.

    Attributes:
        array: voxels, (I, J, K).
        affine: 4 x 4, float64, from voxel indices to RAS+ millimetres, as in NIfTI and nibabel.
        source: the file or DICOM folder that it was read from, if any.
    """

    array: np.ndarray
    affine: np.ndarray = field(repr=False)
    source: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return self.array.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along each axis."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def orientation(self) -> str:
        """Where each axis points, such as "RAS": towards right, anterior and superior."""
        return "".join(nib.aff2axcodes(self.affine))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def __repr__(self) -> str:
        spacing = " x ".join(f"{size:g}" for size in self.spacing_mm)
        return f"Volume({self.shape}, {self.array.dtype}, {spacing} mm, {self.orientation}, {self.source})"
