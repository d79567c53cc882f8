"""Inference inside the organs' box."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from medfm3d.inference.organ_location import read_boxes
from medfm3d.volumes import plain_tensor

SEARCHED_KEY = "searched_share"

Region = tuple[slice, slice, slice]


class BoxedInferer(Inferer):
    """Run an inferer in the box that holds the boxes of all organs, and return the logits of that box.

    The affine of the result tells where the box lies in the scan; outside it everything is background.

    The boxes come from the scan's metadata, where `LocateOrgansd` put them. An organ whose mask touches a face of the
    box that is no face of the scan may go on behind it: then the box grows there, and is run again, until nothing
    touches. A scan with an organ whose place is not known is run as a whole.

    The metadata of the input get an entry `searched_share`: which share of the scan was run in the end.

    Args:
        inferer: runs on what is in the box.
        window: the network's window in voxels: the box is at least as large, so that the network sees around it.
        growth: voxels by which a face moves out when it is touched.

    Raises:
        ValueError: when called, if the input is a batch of several scans, or was never given to `LocateOrgansd`.
    """

    def __init__(self, inferer: Inferer, window: Sequence[int], growth: int = 16) -> None:
        super().__init__()
        if growth < 1:
            raise ValueError(f"a box grows by whole voxels, got {growth}")
        self.inferer = inferer
        self.window = tuple(window)
        self.growth = growth

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return logits (1, C, d, h, w) of the box that was run in the end, of a scan (1, 1, D, H, W)."""
        boxes = read_boxes(inputs)
        if boxes is None or inputs.shape[0] != 1:
            raise ValueError(
                f"boxed inference takes one scan with its organs' boxes noted by LocateOrgansd, got {inputs.shape}"
            )
        sides = tuple(inputs.shape[2:])
        region = self._region(boxes, _affine(inputs), sides)
        while True:
            said = self._run(inputs, region, network, *args, **kwargs)
            touched = _touched_faces(said.argmax(dim=1)[0] > 0, region, sides)
            if not touched.any():
                break
            region = _moved(region, touched * self.growth, sides)
        inputs.meta[SEARCHED_KEY] = float(np.prod([span.stop - span.start for span in region]) / np.prod(sides))
        boxed = MetaTensor(said).copy_meta_from(inputs)
        affine = torch.as_tensor(inputs.affine, dtype=torch.float64).clone()
        affine[..., :3, 3] += affine[..., :3, :3] @ torch.tensor([float(span.start) for span in region]).double()
        boxed.affine = affine
        return boxed

    def _run(
        self, inputs: MetaTensor, region: Region, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        part = inputs.as_tensor()[(slice(None), slice(None), *region)]
        # Inferers read and write metadata: what they need is there, and what they note is kept.
        part = MetaTensor(part).copy_meta_from(inputs)
        said = self.inferer(part, network, *args, **kwargs)
        inputs.meta.update(part.meta)
        return plain_tensor(said)

    def _region(self, boxes: dict[str, Any], affine: np.ndarray, sides: Sequence[int]) -> Region:
        """The voxels of the box around all organs' boxes, at least a window where the scan is that large."""
        spans = [box and box.slices(affine, sides) for box in boxes.values()]
        if not spans or None in spans:
            return _whole(sides)
        starts = np.min([[span.start for span in one] for one in spans], axis=0)
        stops = np.max([[span.stop for span in one] for one in spans], axis=0)
        lacking = np.maximum(0, np.minimum(self.window, sides) - (stops - starts))
        starts = np.maximum(0, starts - (lacking + 1) // 2)
        stops = np.minimum(sides, np.maximum(stops, starts + np.minimum(self.window, sides)))
        starts = np.minimum(starts, np.maximum(0, stops - np.minimum(self.window, sides)))
        return tuple(slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))


def _whole(sides: Sequence[int]) -> Region:
    i, j, k = (slice(0, int(side)) for side in sides)
    return i, j, k


def _touched_faces(found: Tensor, region: Region, sides: Sequence[int]) -> np.ndarray:
    """Which faces (3 axes, low and high) organs touch, but for faces of the scan itself."""
    touched = np.zeros((3, 2), dtype=bool)
    for axis, (span, side) in enumerate(zip(region, sides, strict=True)):
        touched[axis, 0] = span.start > 0 and bool(found.select(axis, 0).any())
        touched[axis, 1] = span.stop < side and bool(found.select(axis, -1).any())
    return touched


def _moved(region: Region, outwards: np.ndarray, sides: Sequence[int]) -> Region:
    i, j, k = (
        slice(max(0, span.start - int(low)), min(int(side), span.stop + int(high)))
        for span, (low, high), side in zip(region, outwards, sides, strict=True)
    )
    return i, j, k


def _affine(scan: MetaTensor) -> np.ndarray:
    affine = np.asarray(scan.affine, dtype=float)
    return affine[0] if affine.ndim == 3 else affine  # a batch, as data loaders make it
