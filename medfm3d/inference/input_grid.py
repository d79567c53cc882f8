"""The grid of the file that a scan was read from, as its metadata tell it."""

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medfm3d.inference.output_grid import OutputGrid

AFFINE, SHAPE = "original_affine", "spatial_shape"  # as MONAI's readers and `LoadVolumed` name them


def input_grid(scan: MetaTensor, number: int = 0) -> OutputGrid:
    """Return the grid of a scan's file, seen from the scan's own grid.

    Args:
        scan: (C, D, H, W), or a batch of such; oriented and resampled since it was read, and nothing else.
        number: which scan of a batch.

    Raises:
        ValueError: if the metadata do not tell it, or the grids are turned against each other.
    """
    if not isinstance(scan, MetaTensor) or AFFINE not in scan.meta or SHAPE not in scan.meta:
        raise ValueError(f"the grid of the file is known from {AFFINE} and {SHAPE} of a MetaTensor, as readers give")
    affine = np.asarray(scan.affine, dtype=float)
    shape = _of_one(scan.meta[SHAPE], 1, number).astype(int)
    own = affine[number] if affine.ndim == 3 else affine
    return OutputGrid.between(own, _of_one(scan.meta[AFFINE], 2, number), shape[:3])


def on_input_grid(result: Tensor, scan: MetaTensor) -> MetaTensor:
    """Return a result that lies on the grid of the scan's file with the scan's metadata, as read from that file."""
    wrapped = MetaTensor(result).copy_meta_from(scan)
    wrapped.affine = torch.as_tensor(np.asarray(scan.meta[AFFINE], dtype=float))
    # None is left to undo.
    wrapped.applied_operations = [[] for _ in result] if scan.is_batch else []
    return wrapped


def _of_one(value: Any, dimensions: int, number: int) -> np.ndarray:
    """Return an entry of one scan; data loaders stack those of a batch."""
    array = np.asarray(value)
    return array[number] if array.ndim > dimensions else array
