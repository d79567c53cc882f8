"""Scans that show only a part of the body."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

MOST_PLANES = 3
ALONG_AN_AXIS = 0.7  # share of planes that lie about across an axis, as the ends of a scan do
TILT = 0.15  # standard deviation of such a plane's direction along the other two axes


class RandFieldOfViewd(RandomizableTransform, MapTransform):
    """Blank what lies behind one to three random planes, as where a scan, or what was kept of it, ends early.

    A planning CT of which only the neighbourhood of the target is given above the skull base, a slab of a few
    centimetres, a region cropped before sharing: there an organ must be told without surroundings that the support set
    shows. The window's middle, and at least `keep` of the way from there to the window's faces, stays as it is.

    Args:
        keys: names of the image and of the label entry, (1, D, H, W) each, on one grid.
        value: intensity of what is blanked; its label becomes 0.
        keep: least part of the way from the middle to the faces that stays.
        prob: probability that anything is blanked.
    """

    def __init__(self, keys: KeysCollection, value: float, keep: float = 0.2, prob: float = 0.3) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.image_key, self.label_key = self.keys
        self.value = value
        self.keep = keep

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with image and label blanked behind the planes."""
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        blank = self._behind_planes(result[self.image_key].shape[1:])
        result[self.image_key] = result[self.image_key].masked_fill(blank, self.value)
        result[self.label_key] = result[self.label_key].masked_fill(blank, 0)
        return result

    def _behind_planes(self, sides: torch.Size) -> Tensor:
        """Return what is blanked as a (D, H, W) mask; places run from -1 to 1 along each axis."""
        places = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in sides), indexing="ij")
        blank = torch.zeros(sides, dtype=torch.bool)
        for _ in range(self.R.randint(1, MOST_PLANES + 1)):
            direction = self.R.normal(size=3)
            if self.R.uniform() < ALONG_AN_AXIS:
                direction *= TILT
                direction[self.R.randint(3)] = self.R.choice([-1.0, 1.0])
            direction /= np.abs(direction).max()
            distance = sum(float(part) * place for part, place in zip(direction, places, strict=True))
            blank |= distance > self.R.uniform(self.keep, 1.0)
        return blank
