"""Label maps of random shapes: anatomy of no body at all."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH_LABELS = (3, 9)  # from ... to (not included)
CONTROL_POINTS = (2, 8)
ELLIPSOIDS = (0, 8)


def random_shapes(window: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Draw a label map of blobs, layers and ellipsoids.

    Several smooth random fields of different fineness compete for each voxel (Hoffmann et al. 2022, SynthMorph,
    IEEE TMI 41, section III-B); ellipsoids with a shell are laid upon them, since organs are more compact than what
    fields give.

    Args:
        window: sides (D, H, W) in voxels.
        rng: source of randomness.

    Returns:
        (D, H, W) int64; labels count from 0.
    """
    count = int(rng.integers(*SMOOTH_LABELS))
    fields = []
    for _ in range(count):
        points = rng.integers(*CONTROL_POINTS, size=3).tolist()
        field = torch.from_numpy(rng.standard_normal((1, 1, *points)).astype(np.float32))
        fields.append(F.interpolate(field, tuple(window), mode="trilinear", align_corners=True)[0, 0])
    labels = torch.stack(fields).argmax(dim=0)
    axes = [torch.linspace(-1, 1, side) for side in window]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    for _ in range(int(rng.integers(*ELLIPSOIDS))):
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        matrix = torch.from_numpy((turn / rng.uniform(0.1, 0.6, 3)).T.astype(np.float32))
        centre = torch.from_numpy(rng.uniform(-0.9, 0.9, 3).astype(np.float32)).view(3, 1, 1, 1)
        radius = torch.einsum("ij,jdhw->idhw", matrix, grid - centre).square().sum(0)
        labels[radius < 1] = count
        count += 1
        if rng.random() < 0.3:
            labels[radius < rng.uniform(0.3, 0.8)] = count
            count += 1
    return labels
