"""Unlabelled cohorts as batches of global and local views for Lightning."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple_rep

from medfm3d.pretraining.dino.multi_crop import MultiCropDataset
from medfm3d.pretraining.pretraining_data import TRAINING, VALIDATION, PretrainingData


class MultiCropData(PretrainingData):
    """Regions from several cohorts, mixed by their weights, each seen in global and local views.

    Args:
        cohorts: as of `PretrainingData`.
        cache_dir: as of `PretrainingData`.
        region: sides (D, H, W) in voxels of what all views of a sample are cut from; one number for a cube.
        global_side: sides of the two global views in voxels.
        local_side: sides of the local views in voxels.
        local_views: how many of these.
        global_scale: least and largest extent in the volume, in voxels, of a voxel of a global view.
        local_scale: the same for local ones.
        flip_views: flip views of one region each on its own, too.
        further: as of `PretrainingData`.
    """

    def __init__(
        self,
        cohorts: Sequence[Any],
        cache_dir: str | Path,
        region: int | Sequence[int] = (128, 128, 128),
        global_side: int | Sequence[int] = (96, 96, 96),
        local_side: int | Sequence[int] = (48, 48, 48),
        local_views: int = 6,
        global_scale: Sequence[float] = (0.75, 1.3),
        local_scale: Sequence[float] = (0.5, 1.0),
        flip_views: bool = False,
        **further: Any,
    ) -> None:
        super().__init__(cohorts, cache_dir, region, **further)
        self.views = {
            "global_side": ensure_tuple_rep(global_side, 3),
            "local_side": ensure_tuple_rep(local_side, 3),
            "local_views": local_views,
            "global_scale": tuple(global_scale),
            "local_scale": tuple(local_scale),
            "flip_views": flip_views,
        }

    def training_dataset(self, entries: list[list[Path]], weights: list[float]) -> MultiCropDataset:
        """Return the views to learn from."""
        return MultiCropDataset(entries, weights, self.window, self.seed, TRAINING, **self.views)

    def validation_dataset(self, entries: list[list[Path]], weights: list[float]) -> MultiCropDataset:
        """Return the views to validate on, the same ones each time."""
        return MultiCropDataset(entries, weights, self.window, self.seed, VALIDATION, **self.views)
