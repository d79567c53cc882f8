"""Where organs lie, by the network's own look at a scan in fewer and larger voxels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d

from medfm3d.inference.search_region import SearchRegion, grown, joined, whole
from medfm3d.volumes import mask_box, plain_tensor

PIECE = 0.2  # of the largest piece of an organ's mask: smaller ones are taken for something else


class CoarseSearch:
    """Find the box of each organ by running the network over the scan at a lower resolution.

    Where a location prior has boxes of all organs, only their surroundings are looked at. The network sees organs
    smaller than it has learnt them; what it finds tells where they lie, not what belongs to them.

    Args:
        inferer: gives labels (1, 1, d, h, w) of a scan with fewer voxels on its own grid, such as a `StreamingInferer`
            with reduction "labels".
        organs: names, in the order of the network's channels after background.
        factor: how many times as long a voxel becomes along each axis.
        margin: voxels of the scan between an organ's mask and the faces of its box.
        reach: voxels of the scan around the prior's boxes that are looked at.

    Raises:
        ValueError: for a factor below 1, or a negative margin or reach.
    """

    def __init__(
        self, inferer: Inferer, organs: Sequence[str], factor: float = 1.5, margin: int = 2, reach: int = 8
    ) -> None:
        if factor < 1 or margin < 0 or reach < 0:
            raise ValueError(
                f"a coarse search takes a factor of 1 or more and no negative margin or reach, got {factor}, {margin} "
                f"and {reach}"
            )
        self.inferer = inferer
        self.organs = tuple(organs)
        self.factor = factor
        self.margin = margin
        self.reach = reach

    @torch.no_grad()
    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Any],
        expected: Mapping[str, SearchRegion | None],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, SearchRegion | None]:
        """Return the box of each organ in a scan (1, C, D, H, W), None for one that was not found.

        Args:
            inputs: the scan.
            network: the segmenter, which is given the further arguments.
            expected: the prior's boxes, None for an organ whose place it does not know; empty without a prior.
        """
        sides = tuple(inputs.shape[2:])
        known = [box for box in map(expected.get, self.organs) if box is not None]
        area = grown(joined(known), self.reach, sides) if len(known) == len(self.organs) else whole(sides)
        part = plain_tensor(inputs)[(slice(None), slice(None), *area)]
        fewer = adaptive_avg_pool3d(part, [max(1, round(side / self.factor)) for side in part.shape[2:]])
        labels = plain_tensor(self.inferer(fewer, network, *args, **kwargs))[0, 0].cpu().numpy()
        boxes: dict[str, SearchRegion | None] = {}
        for number, organ in enumerate(self.organs, start=1):
            box = _box(labels == number)
            boxes[organ] = box and grown(_enlarged(box, labels.shape, area), self.margin, sides)
        return boxes


def _box(mask: np.ndarray) -> SearchRegion | None:
    """Return the box around the larger pieces of a mask."""
    pieces, count = ndimage.label(mask)
    if not count:
        return None
    voxels = np.bincount(pieces.ravel())[1:]
    i, j, k = mask_box(np.isin(pieces, 1 + np.flatnonzero(voxels >= PIECE * voxels.max())))
    return i, j, k


def _enlarged(box: SearchRegion, sides: Sequence[int], area: SearchRegion) -> SearchRegion:
    """Return the voxels of a scan that a box of the coarse grid, of these sides and over that area, has a share in."""
    i, j, k = (
        slice(
            over.start + span.start * (over.stop - over.start) // side,
            over.start - (-span.stop * (over.stop - over.start) // side),
        )
        for span, side, over in zip(box, sides, area, strict=True)
    )
    return i, j, k
