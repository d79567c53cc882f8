"""Scores of a whole scan, or of a box of it, brought to the grid of the file a slab at a time."""

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from medfm3d.inference.assessed_labels import KeepAssessedLabels
from medfm3d.inference.cell_writer import CellWriter
from medfm3d.inference.input_grid import input_grid, on_input_grid
from medfm3d.inference.score_reduction import ScoreReduction
from medfm3d.inference.window_grid import WindowGrid

SLAB = 16  # planes of scores that are worked on at once


class ReduceToInputGridd(MapTransform):
    """Softmax, resampling to the grid of the file and argmax, without probabilities of the whole scan on either grid.

    The result is that of a `StreamingInferer` with `reduction="assessed-labels"` and `grid="input"`: labels, with
    entropy as a second channel if asked for, and each organ's soft Dice in the metadata. It is for logits that
    something else, such as priors, had to see as a whole.

    Args:
        keys: logits, MetaTensors (1 + organs, D, H, W), background first, on the grid of the scan or of a box of it,
            outside of which all is background.
        image_key: entry of the scan, whose metadata tell the grid of the file.
        entropy: whether entropy is kept.
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image", entropy: bool = False) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.entropy = entropy

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Return the data with logits replaced by labels (1 or 2, I, J, K)."""
        result = dict(data)
        scan: MetaTensor = result[self.image_key]
        for key in self.key_iterator(result):
            logits: MetaTensor = result[key]
            reduction = KeepAssessedLabels(len(logits), self.entropy)
            labels = on_input_grid(reduce_to_input_grid(logits, scan, reduction), scan)
            known = {name: value for name, value in logits.meta.items() if name not in labels.meta}
            labels.meta.update({**known, **reduction.notes()})
            result[key] = labels
        return result


def reduce_to_input_grid(scores: MetaTensor, scan: MetaTensor, reduction: ScoreReduction) -> Tensor:
    """Return what a reduction keeps of scores, (channels, I, J, K) on the grid of the scan's file.

    Args:
        scores: (C, D, H, W) on the scan's grid, or on that of a box of it; outside of the box the result is 0.
        scan: (1, D, H, W).
        reduction: what is kept.

    Raises:
        ValueError: as `input_grid`.
    """
    size = tuple(scores.shape[1:])
    slow = int(np.argmax(size))
    slab = tuple(min(side, SLAB) if axis == slow else side for axis, side in enumerate(size))
    grid = WindowGrid(size, slab, (0, 0, 0))
    located = MetaTensor(scan.as_tensor()).copy_meta_from(scan)
    located.affine = scores.affine
    output_grid = input_grid(located)
    output = torch.zeros((reduction.channels(len(scores)), *output_grid.shape), dtype=reduction.dtype)
    writer = CellWriter(grid, (0, 0, 0), size, output_grid, reduction, output, _cut_faces(scores, scan))
    plain = scores.as_tensor()
    for cell in grid.cells.values():
        writer.write(cell, plain[(slice(None), *cell.region)])
    return output


def _cut_faces(scores: MetaTensor, scan: MetaTensor) -> list[tuple[bool, bool]]:
    """Say of the low and high face along each axis whether the scan goes on behind it."""
    to_scan = np.linalg.inv(np.asarray(scan.affine, dtype=float)) @ np.asarray(scores.affine, dtype=float)
    first = np.round(to_scan[:3, 3]).astype(int)
    sides = zip(first, scores.shape[1:], scan.shape[1:], strict=True)
    return [(bool(low > 0), bool(low + side < whole)) for low, side, whole in sides]
