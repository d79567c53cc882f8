"""Inference inside the organs' box."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from medfm3d.inference.coarse_search import CoarseSearch
from medfm3d.inference.organ_location import read_boxes
from medfm3d.inference.search_region import SearchRegion, at_least, grown, joined, whole
from medfm3d.volumes import plain_tensor

SEARCHED_KEY = "searched_share"
BOX_SEARCHES = ("prior", "coarse", "both")


class BoxedInferer(Inferer):
    """Run an inferer in the box that holds the boxes of all organs, and return the logits of that box.

    The affine of the result tells where the box lies in the scan; outside it everything is background.

    The boxes come from the location prior, by way of the scan's metadata, where `LocateOrgansd` put them, or from a
    coarse search, or from both, joined. An organ whose mask touches a face of the box that is no face of the scan may
    go on behind it: then the box grows there, and is run again, until nothing touches. A scan with an organ whose place
    is not known is run as a whole, and so is one in whose box an organ is not found: the box may lie elsewhere.

    The metadata of the input get an entry `searched_share`: which share of the scan was run in the end.

    Args:
        inferer: runs on what is in the box.
        window: the network's window in voxels: the box is at least as large, so that the network sees around it.
        growth: voxels by which a face moves out when it is touched.
        box_search: where boxes come from, of `BOX_SEARCHES`.
        coarse: finds organs at a lower resolution first, if `box_search` asks for it.

    Raises:
        ValueError: for an unknown `box_search`, or one without what it needs; when called, if the input is a batch of
            several scans, or the prior is asked for and the scan was never given to `LocateOrgansd`.
    """

    def __init__(
        self,
        inferer: Inferer,
        window: Sequence[int],
        growth: int = 16,
        box_search: str = "prior",
        coarse: CoarseSearch | None = None,
    ) -> None:
        super().__init__()
        if growth < 1:
            raise ValueError(f"a box grows by whole voxels, got {growth}")
        if box_search not in BOX_SEARCHES or (box_search != "prior" and coarse is None):
            raise ValueError(
                f"box_search is one of {', '.join(BOX_SEARCHES)}, without a coarse search prior, got {box_search!r}"
            )
        self.inferer = inferer
        self.window = tuple(window)
        self.growth = growth
        self.use_prior = box_search != "coarse"
        self.coarse = None if box_search == "prior" else coarse

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return logits (1, C, d, h, w) of the box that was run in the end, of a scan (1, 1, D, H, W)."""
        if not isinstance(inputs, MetaTensor) or inputs.shape[0] != 1:
            raise ValueError(f"boxed inference takes one scan at a time, a MetaTensor, got {tuple(inputs.shape)}")
        sides = tuple(inputs.shape[2:])
        region = self.region(inputs, network, *args, **kwargs)
        while True:
            said = self._run(inputs, region, network, *args, **kwargs)
            labels = said.argmax(dim=1)[0]
            touched = _touched_faces(labels > 0, region, sides)
            if touched.any():
                region = grown(region, touched * self.growth, sides)
            elif region != whole(sides) and len(labels[labels > 0].unique()) < said.shape[1] - 1:
                region = whole(sides)  # an organ is missing: it may lie elsewhere
            else:
                break
        inputs.meta[SEARCHED_KEY] = float(np.prod([span.stop - span.start for span in region]) / np.prod(sides))
        boxed = MetaTensor(said).copy_meta_from(inputs)
        affine = torch.as_tensor(inputs.affine, dtype=torch.float64).clone()
        affine[..., :3, 3] += affine[..., :3, :3] @ torch.tensor([float(span.start) for span in region]).double()
        boxed.affine = affine
        return boxed

    def _run(
        self, inputs: MetaTensor, region: SearchRegion, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        part = inputs.as_tensor()[(slice(None), slice(None), *region)]
        # Inferers read and write metadata: what they need is there, and what they note is kept.
        part = MetaTensor(part).copy_meta_from(inputs)
        said = self.inferer(part, network, *args, **kwargs)
        inputs.meta.update(part.meta)
        return plain_tensor(said)

    def region(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> SearchRegion:
        """Return the voxels that are run first: the box around all organs' boxes, at least a window if the scan is."""
        noted = read_boxes(inputs) if self.use_prior else {}
        if noted is None:
            raise ValueError("the organs' boxes are not noted with the scan: put LocateOrgansd into preprocessing")
        sides = tuple(inputs.shape[2:])
        boxes: dict[str, SearchRegion | None] = {
            organ: box and box.slices(_affine(inputs), sides) for organ, box in noted.items()
        }
        if self.coarse is not None:
            for organ, box in self.coarse(inputs, network, boxes, *args, **kwargs).items():
                either = [one for one in (box, boxes.get(organ)) if one is not None]
                boxes[organ] = joined(either) if either else None
        known = [box for box in boxes.values() if box is not None]
        if not known or len(known) < len(boxes):
            return whole(sides)
        return at_least(joined(known), self.window, sides)


def _touched_faces(found: Tensor, region: SearchRegion, sides: Sequence[int]) -> np.ndarray:
    """Which faces (3 axes, low and high) organs touch, but for faces of the scan itself."""
    touched = np.zeros((3, 2), dtype=bool)
    for axis, (span, side) in enumerate(zip(region, sides, strict=True)):
        touched[axis, 0] = span.start > 0 and bool(found.select(axis, 0).any())
        touched[axis, 1] = span.stop < side and bool(found.select(axis, -1).any())
    return touched


def _affine(scan: MetaTensor) -> np.ndarray:
    affine = np.asarray(scan.affine, dtype=float)
    return affine[0] if affine.ndim == 3 else affine  # a batch, as data loaders make it
