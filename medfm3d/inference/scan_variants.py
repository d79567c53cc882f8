"""The variants of a scan that test-time augmentation looks at."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import AdjustContrast
from monai.transforms.utils import create_rotate, create_scale
from torch import Tensor

from medfm3d.volumes.window_sampling import sample_at, window_places

# Well inside what training shows the network (30 degrees, 0.3, gamma 0.6 to 1.65): every variant is easy for it.
ROTATION_RAD = math.radians(8)
SCALING = 0.08
SHIFT_VOXELS = 4  # half of the encoder's patches, and other places of the sliding windows
LOG_GAMMA = 0.2
OFFSET = 0.1  # of standardised intensities
SLAB_VOXELS = 4_000_000  # sampled at once: bounds the memory for coordinates


@dataclass(frozen=True)
class Variant:
    """One way to look at a scan: turned, scaled and shifted about its middle, with other intensities.

    Attributes:
        matrix: from offsets in the variant to offsets in the scan, voxels, (3, 3).
        shift: of the middle, in voxels of the scan, (3,).
        gamma: exponent of the intensities.
        offset: added to them afterwards.
    """

    matrix: np.ndarray
    shift: np.ndarray
    gamma: float
    offset: float

    def apply(self, scan: Tensor) -> Tensor:
        """Return the variant of a scan (C, D, H, W); beyond the scan its outermost voxels go on."""
        moved = torch.empty_like(scan, dtype=torch.float32)
        for slab, places in _places(scan.shape[1:], self.matrix, self.shift):
            moved[:, slab] = sample_at(scan, places, "bilinear", "border")
        return AdjustContrast(self.gamma, retain_stats=True)(moved) + self.offset

    def undo(self, channels: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Bring channels (C, D, H, W) back to the scan's grid, slab by slab along the first axis.

        Yields:
            Where the slab lies, its channels (C, d, H, W), and which of its voxels the variant shows at all, (d, H, W).
        """
        inverse = np.linalg.inv(self.matrix)
        last = torch.tensor(channels.shape[1:]) - 1
        for slab, places in _places(channels.shape[1:], inverse, -inverse @ self.shift):
            shown = ((places > -0.5) & (places < last + 0.5)).all(dim=-1)
            yield slab, sample_at(channels, places, "bilinear", "border"), shown


def draw_variants(count: int, spacing_mm: Sequence[float], seed: int = 0) -> list[Variant]:
    """Return variants in pairs of opposite changes, so that on average they change nothing.

    Rotation and scaling act on millimetres, whatever the voxels' shape. Nothing is mirrored: the network never saw a
    mirrored scan, and bodies without a sided organ are not symmetric either.

    Args:
        count: how many; of an odd number the last stands alone.
        spacing_mm: voxel size of the scans.
        seed: of the changes.
    """
    rng = np.random.default_rng(seed)
    to_mm = np.diag(np.asarray(spacing_mm, dtype=float))
    variants: list[Variant] = []
    while len(variants) < count:
        angles, scaling = rng.uniform(-ROTATION_RAD, ROTATION_RAD, 3), rng.uniform(-SCALING, SCALING, 3)
        shift = rng.integers(1, SHIFT_VOXELS, 3, endpoint=True) * rng.choice((-1, 1), 3)
        log_gamma, offset = rng.uniform(-LOG_GAMMA, LOG_GAMMA), rng.uniform(-OFFSET, OFFSET)
        turned = create_rotate(3, angles.tolist()) @ create_scale(3, np.exp(scaling).tolist())
        matrix = np.linalg.inv(to_mm) @ turned[:3, :3] @ to_mm
        variants.append(Variant(matrix, shift.astype(float), float(np.exp(log_gamma)), offset))
        variants.append(Variant(np.linalg.inv(matrix), -shift.astype(float), float(np.exp(-log_gamma)), -offset))
    return variants[:count]


def _places(shape: Sequence[int], matrix: np.ndarray, shift: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Yield slabs of a grid, and where their voxels lie on another grid of the same shape, (d, H, W, 3)."""
    middle = (np.array(shape) - 1) / 2
    thickness = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thickness):
        stop = min(start + thickness, shape[0])
        offset = np.array([(start + stop - 1) / 2 - middle[0], 0, 0])
        yield (
            slice(start, stop),
            window_places((stop - start, *shape[1:]), matrix @ offset + middle + shift, matrix),
        )
