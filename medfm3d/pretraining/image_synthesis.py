"""Images of random contrast from label maps."""

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import GaussianSmooth
from torch import Tensor

CLIP = 5.0  # standard deviations


def synthesise_image(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw an image in which each label has an intensity and a texture of its own, as no scanner need ever give it.

    The generative model of SynthSeg (Billot et al. 2023, Medical Image Analysis 86, section 3.2): a Gaussian per label,
    a bias field, a gamma, lower resolution along each axis, noise. Beyond it, as in anatomix (Dey et al. 2025, ICLR),
    textures are smooth fields of random fineness, and some labels share one intensity, so that not every border shows.

    Args:
        labels: (D, H, W) integers from 0.
        rng: source of randomness.

    Returns:
        (1, D, H, W) float32 with zero mean and unit spread, clipped at `CLIP`.
    """
    window, count = tuple(labels.shape), int(labels.max()) + 1
    means = rng.uniform(0, 1, count)
    merged = rng.random(count) < 0.15
    means[merged] = means[rng.integers(count, size=int(merged.sum()))]
    spreads = rng.uniform(0, 0.12, count)
    image = _by_label(means, labels) + _by_label(spreads, labels) * _texture(window, rng)
    image = GaussianSmooth(sigma=rng.uniform(0.3, 0.9, 3).tolist())(image[None])[0]
    image = image * torch.exp(_smooth_field(window, 4, rng) * rng.uniform(0, 0.4))
    image = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-6)
    image = image ** float(np.exp(rng.normal(0, 0.4)))
    if rng.random() < 0.4:
        image = _lower_resolution(image, rng.uniform(1, 3, 3))
    noise = torch.from_numpy(rng.standard_normal(window, dtype=np.float32))
    image = image + noise * rng.uniform(0, 0.08)
    image = (image - image.mean()) / image.std().clamp(min=1e-6)
    return image.clamp(-CLIP, CLIP)[None]


def _by_label(values: np.ndarray, labels: Tensor) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[labels]


def _texture(window: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Return a field of unit spread, between white noise and blobs a third of the window wide."""
    fineness = rng.uniform(3, 20)
    smooth, share = _smooth_field(window, fineness, rng), rng.uniform(0, 1)
    white = torch.from_numpy(rng.standard_normal(window, dtype=np.float32))
    return (1 - share) * white + share * smooth / smooth.std().clamp(min=1e-6)


def _smooth_field(window: tuple[int, ...], points: float, rng: np.random.Generator) -> Tensor:
    grid = [max(2, min(side, round(points))) for side in window]
    field = torch.from_numpy(rng.standard_normal((1, 1, *grid)).astype(np.float32))
    return F.interpolate(field, window, mode="trilinear", align_corners=True)[0, 0]


def _lower_resolution(image: Tensor, factors: np.ndarray) -> Tensor:
    low = [max(2, round(side / factor)) for side, factor in zip(image.shape, factors, strict=True)]
    reduced = F.interpolate(image[None, None], low, mode="area")
    return F.interpolate(reduced, tuple(image.shape), mode="trilinear")[0, 0]
