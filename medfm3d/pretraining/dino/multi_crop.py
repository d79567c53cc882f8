"""Global and local views of one region of a volume."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
    RandSpatialCrop,
    Resize,
)
from torch import Tensor

from medfm3d.pretraining.windows import WindowDataset, random_window
from medfm3d.volumes.plain_tensor import plain_tensor

GLOBAL_VIEWS = 2


class MultiCropDataset(WindowDataset):
    """Region number i of an endless sequence, seen several times; all follows from (seed, stream, i).

    A region is cut out of a volume, and all its views lie in it. It is never padded: along an axis where the volume is
    shorter, so is the region, and views of it are stretched. It is flipped as a whole. Left and right of a body differ,
    and features that are to tell them apart must not be taught that they do not; `flip_views` does teach that.

    An item has `global` (2, 1, D, H, W) and `local` (local_views, 1, d, h, w).

    Args:
        entries: prepared volumes of each cohort, as `PreparedVolumes.entries`.
        weights: how often each cohort is drawn.
        region: sides (D, H, W) in voxels of the volume.
        seed: of everything drawn.
        stream: tells sequences of one seed apart.
        global_side: sides of global views.
        local_side: sides of local ones.
        local_views: how many of these.
        global_scale: least and largest extent, in voxels of the volume, of what becomes one voxel of a global view;
            drawn along each axis.
        local_scale: the same for local ones.
        flip_views: flip each view on its own, too.

    Raises:
        ValueError: if a view may be larger than the region.
    """

    def __init__(
        self,
        entries: Sequence[Sequence[Path]],
        weights: Sequence[float],
        region: Sequence[int],
        seed: int,
        stream: int,
        *,
        global_side: Sequence[int],
        local_side: Sequence[int],
        local_views: int,
        global_scale: Sequence[float],
        local_scale: Sequence[float],
        flip_views: bool = False,
    ) -> None:
        super().__init__(entries, weights, region, seed, stream)
        for name, side, scale in (("global", global_side, global_scale), ("local", local_side, local_scale)):
            largest = [round(length * scale[1]) for length in side]
            if any(extent > room for extent, room in zip(largest, region, strict=True)):
                raise ValueError(
                    f"{name} views of up to {largest} voxels do not fit into a region of {list(region)}: enlarge the "
                    f"region, or lower {name}_scale"
                )
        self.local_views = local_views
        self.local_side = tuple(local_side)
        self.flips = _flips()
        self.global_transform = view_transform(global_side, global_scale, flip=flip_views)
        self.local_transform = view_transform(local_side, local_scale, flip=flip_views)

    def __getitem__(self, number: int) -> dict[str, Any]:
        volume, rng = self.draw(number)
        region = random_window(volume, [min(pair) for pair in zip(volume.shape[1:], self.window, strict=True)], rng)
        for transform in (self.flips, self.global_transform, self.local_transform):
            transform.set_random_state(seed=int(rng.integers(2**32)))
        region = self.flips(region)
        return {
            "global": _views(region, self.global_transform, GLOBAL_VIEWS),
            "local": _views(region, self.local_transform, self.local_views)
            if self.local_views
            else torch.zeros(0, 1, *self.local_side),
        }


def view_transform(side: Sequence[int], scale: Sequence[float], *, flip: bool) -> Compose:
    """Return the random transform from a region (1, I, J, K) to one view: crop, resampling, intensities.

    Crops are resampled trilinearly. Brightness, contrast, gamma, blur and noise change as in 2D colours do (Caron et
    al. 2021, appendix C).
    """
    low, high = ([max(1, round(length * factor)) for length in side] for factor in scale)
    return Compose(
        [
            RandSpatialCrop(low, max_roi_size=high, random_center=True, random_size=True),
            Resize(list(side), mode="trilinear"),
            *([_flips()] if flip else []),
            RandScaleIntensity(factors=0.2, prob=0.8),
            RandShiftIntensity(offsets=0.2, prob=0.8),
            RandAdjustContrast(prob=0.5, gamma=(0.7, 1.5)),
            RandGaussianSmooth(*[(0.25, 1.0)] * 3, prob=0.3),
            RandGaussianNoise(prob=0.3, std=0.1),
        ]
    )


def _flips() -> Compose:
    return Compose([RandFlip(prob=0.5, spatial_axis=axis) for axis in range(3)])


def _views(region: Tensor, transform: Compose, count: int) -> Tensor:
    return torch.stack([plain_tensor(torch.as_tensor(transform(region))) for _ in range(count)])
