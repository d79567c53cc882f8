"""How tissues of CT move against each other with tube voltage and contrast agent."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform


class RandTissueContrastd(RandomizableTransform, MapTransform):
    """Shift ranges of the HU scale against each other by a piecewise linear curve that keeps their order.

    Tube voltage and contrast phase change enhancing tissue and bone by tens of HU and leave air and water alone, which
    neither an offset nor a factor nor gamma on the whole scale can do. `monai.transforms.RandHistogramShift` has such
    curves too, but draws them so freely that soft tissue, a fifth of the scale, often disappears.

    Args:
        keys: entries to change, tensors of any shape.
        points: knots of the curve, evenly from the least to the greatest intensity of an entry; the outer ones stay.
        shift: how far a knot may move, as a part of the distance between two; below 0.5, so that order is kept.
        prob: probability that the scale is changed.

    Raises:
        ValueError: if there are fewer than 3 knots or the shift is not between 0 and 0.5.
    """

    def __init__(self, keys: KeysCollection, points: int = 7, shift: float = 0.35, prob: float = 0.1) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if points < 3 or not 0 <= shift < 0.5:
            raise ValueError(f"expected 3 knots or more and a shift from 0 to 0.5, got {points} and {shift}")
        self.points = points
        self.shift = shift

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the scale of the entries changed."""
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        moves = np.zeros(self.points)
        moves[1:-1] = self.R.uniform(-self.shift, self.shift, self.points - 2)
        for key in self.key_iterator(result):
            image = result[key]
            knots = np.linspace(float(image.min()), float(image.max()), self.points)
            moved = knots + moves * (knots[1] - knots[0])
            changed = np.interp(image.cpu().numpy(), knots, moved)
            result[key] = torch.as_tensor(changed, dtype=image.dtype, device=image.device)
        return result
