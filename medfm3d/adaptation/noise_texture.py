"""The grain of CT images."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor


class RandCTNoised(RandomizableTransform, MapTransform):
    """Add noise with the texture of filtered back projection, which differs between reconstruction kernels.

    The noise of a CT slice is not white: its power grows with frequency, as the ramp filter has it, up to where the
    kernel cuts off (Riederer, Pelc and Chesler, Phys Med Biol 23, 1978). Its power spectrum is taken as
    f exp(-f² / 2p²), which is largest at f = p: a small p is the coarse grain of a soft kernel, a large one the fine
    grain of a sharp kernel. Slices, which lie across the last axis in RAS orientation, are independent.

    Args:
        keys: entries to change, tensors (C, D, H, W).
        std: largest standard deviation of the noise; that of a window is drawn between 0 and this.
        peak: range of p in cycles per voxel.
        prob: probability that noise is added.
    """

    def __init__(
        self, keys: KeysCollection, std: float = 0.3, peak: tuple[float, float] = (0.08, 0.3), prob: float = 0.1
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.std = std
        self.peak = peak

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with noise added to the entries."""
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        for key in self.key_iterator(result):
            image = result[key]
            noise = self.R.uniform(0, self.std) * self._texture(tuple(image.shape))
            result[key] = image + noise.to(image)
        return result

    def _texture(self, shape: tuple[int, ...]) -> Tensor:
        """Return noise of mean 0 and standard deviation 1."""
        peak = self.R.uniform(*self.peak)
        white = torch.as_tensor(self.R.standard_normal(shape), dtype=torch.float32)
        frequency = torch.hypot(torch.fft.fftfreq(shape[1])[:, None], torch.fft.rfftfreq(shape[2])[None, :])
        amplitude = torch.sqrt(frequency * torch.exp(-(frequency**2) / (2 * peak**2)))[..., None]
        noise = torch.fft.irfftn(torch.fft.rfftn(white, dim=(1, 2)) * amplitude, s=shape[1:3], dim=(1, 2))
        return noise / noise.std()
