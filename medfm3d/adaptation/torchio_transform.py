"""TorchIO's random transforms among MONAI's, under MONAI's seeds."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

MAX_SEED = 2**31


class RandTorchIOd(RandomizableTransform, MapTransform):
    """Apply a random intensity transform of TorchIO to entries of a dictionary.

    TorchIO draws from PyTorch's global generator. Here that generator is seeded, for the length of one call, by a
    number that MONAI's random state gives, and is put back afterwards: `Compose.set_random_state` governs these
    transforms as all others, and nothing else that draws from PyTorch is moved by them.

    TorchIO takes a tensor's voxels for 1 mm, so lengths in mm in its arguments count voxels here.

    Args:
        keys: entries to change, tensors (1, D, H, W).
        transform: such as `torchio.RandomMotion`; it must leave the grid as it is.
        prob: probability that it is applied.
    """

    def __init__(self, keys: KeysCollection, transform: Callable[[Tensor], Tensor], prob: float = 0.1) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.transform = transform
        self.drawn_seed = 0

    def randomize(self, data: Any = None) -> None:
        """Draw whether to apply the transform, and its seed."""
        super().randomize(None)
        self.drawn_seed = int(self.R.randint(MAX_SEED))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the entries changed."""
        result = dict(data)
        self.randomize()
        if not self._do_transform:
            return result
        for key in self.key_iterator(result):
            with torch.random.fork_rng(devices=()):
                torch.default_generator.manual_seed(self.drawn_seed)
                result[key] = self.transform(result[key])
        return result
