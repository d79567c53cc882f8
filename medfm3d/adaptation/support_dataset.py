"""Training windows from a few labelled cases; what the frozen part of the network says of them is computed once."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from torch import Tensor
from torch.utils.data import Dataset

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter
from medfm3d.cohorts import ContentKeyedCache
from medfm3d.volumes import VolumeError, plain_tensor


class SupportDataset(Dataset):
    """Random windows of the support set.

    Cases are read and preprocessed once, or taken from `cache_dir` where an earlier training left them. A method that
    trains encoder or decoder gets freshly augmented windows. A method that trains only what comes behind the features
    gets the features of `cached_windows` augmented windows per case, computed at the first access and kept in half
    precision: the network in front runs no more after that.

    Args:
        data: support cases as {"image": path, "label": path}.
        preprocessing: deterministic transforms, from those paths to (1, D, H, W) tensors.
        augmentation: random transforms to a window, as from `training_augmentation`.
        windows_per_epoch: length of the dataset.
        method: the adaptation method.
        network: the network whose features are cached; it must be on the device that computes them.
        cached_windows: augmented windows per case whose features are cached.
        seed: of the order in which cached windows are drawn.
        cache_dir: folder of preprocessed cases that later trainings may use; see `ContentKeyedCache`.

    Raises:
        ValueError: if there are no cases.
        VolumeError: if no voxel of an organ is left in a case at the network's voxel size.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        preprocessing: Callable,
        augmentation: Callable,
        windows_per_epoch: int,
        method: Adapter,
        network: AdaptableNetwork,
        cached_windows: int = 16,
        seed: int = 0,
        cache_dir: str | Path | None = None,
    ) -> None:
        if not data:
            raise ValueError("the support set is empty: name at least one labelled case")
        paths = [{"image": str(case["image"]), "label": str(case["label"])} for case in data]
        if cache_dir is None:
            self.cases = CacheDataset(paths, preprocessing, cache_rate=1.0, num_workers=1, progress=False)
        else:
            kept = ContentKeyedCache(paths, preprocessing, cache_dir)
            self.cases = [kept[index] for index in range(len(kept))]
        self._check_organs(paths, network.organs)
        self.augmentation = augmentation
        self.windows_per_epoch = windows_per_epoch
        self.network = network
        self.cached_windows = cached_windows if method.caches_features else 0
        self.generator = np.random.default_rng(seed)
        self.drawn = 0
        self.feature_cache: list[dict[str, Tensor]] = []

    def __len__(self) -> int:
        return self.windows_per_epoch

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= self.windows_per_epoch:
            raise IndexError(index)
        if not self.cached_windows:
            self.drawn += 1  # in turn, also where an epoch has fewer windows than there are cases
            return self._window(self.drawn)
        if not self.feature_cache:
            self._fill_feature_cache()
        item = self.feature_cache[self.generator.integers(len(self.feature_cache))]
        return {"image": item["image"].float(), "label": item["label"]}

    def _check_organs(self, paths: Sequence[Mapping[str, str]], organs: Sequence[str]) -> None:
        for path, case in zip(paths, self.cases, strict=True):
            left = zip(organs, case["label_cls_indices"][1:], strict=True)
            if gone := [organ for organ, voxels in left if not len(voxels)]:
                raise VolumeError(
                    f"{path['label']}: no voxel of {', '.join(gone)} is left at the network's voxel size; choose a "
                    "smaller one (--spacing-mm)"
                )

    def _window(self, index: int) -> dict[str, Tensor]:
        window = self.augmentation(self.cases[index % len(self.cases)])
        return {key: plain_tensor(window[key]) for key in ("image", "label")}

    @torch.no_grad()
    def _fill_feature_cache(self) -> None:
        device = next(iter(self.network.parameters())).device
        for index in range(len(self.cases) * self.cached_windows):
            window = self._window(index)
            features = self.network.features(window["image"][None].to(device))
            self.feature_cache.append({"image": features[0].half().cpu(), "label": window["label"]})
