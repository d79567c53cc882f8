"""Cohorts of label maps, from which images are synthesised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medfm3d.volumes import VolumeError, find_volumes, read_label, reorient

LARGEST_NUMBER = 65535


@dataclass(frozen=True)
class LabelMapCohort:
    """Label maps with common label numbers; no images.

    Attributes:
        labels: a folder of label maps, or several files; None for random shapes, which need none.
        weight: how often its windows are drawn, relative to the other cohorts.
        merged: label numbers to replace by others, such as {17: 3}: organs that a network must not learn, because it
            will be judged by them, become part of their surroundings.
        zoom: least and largest number of the map's voxels along one of the window's.
    """

    labels: str | Path | Sequence[str | Path] | None = None
    weight: float = 1.0
    merged: Mapping[int | str, int] = field(default_factory=dict)  # JSON has strings for keys
    zoom: tuple[float, float] = (0.7, 1.4)

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"a cohort's weight must be positive, got {self.weight}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom must be two positive numbers, the least first, got {tuple(self.zoom)}")

    @property
    def name(self) -> str:
        """Name of the folder or of the first file, without the path to it."""
        return "random shapes" if self.labels is None else self._paths()[0].resolve().name

    @cached_property
    def maps(self) -> list[Tensor]:
        """The label maps, (1, I, J, K) uint8 in RAS, with channels in place of label numbers; read once.

        Raises:
            VolumeError: if there is no label map, one is unusable, or there are more than 255 labels.
        """
        files = [file for path in self._paths() for file in (find_volumes(path) if path.is_dir() else [path])]
        if not files:
            raise VolumeError(f"{self.labels}: holds no label map; give a folder of label maps, or files")
        arrays = [reorient(read_label(file)).array for file in files]
        number_of = np.arange(LARGEST_NUMBER + 1)
        for old, new in self.merged.items():
            number_of[int(old)] = new
        counts = sum(np.bincount(array.ravel(), minlength=LARGEST_NUMBER + 1) for array in arrays)
        present = np.unique([0, *number_of[counts > 0]])
        if len(present) > 255:
            raise VolumeError(f"{self.labels}: has {len(present)} labels, more than 255; give label maps of organs")
        channel_of = np.zeros(LARGEST_NUMBER + 1, dtype=np.uint8)
        channel_of[present] = np.arange(len(present))
        return [torch.from_numpy(channel_of[number_of][array])[None] for array in arrays]

    @property
    def channels(self) -> int:
        """Number of labels, background included; 0 for random shapes, whose labels have no meaning."""
        return 0 if self.labels is None else 1 + max(int(labels.max()) for labels in self.maps)

    def _paths(self) -> list[Path]:
        return [Path(path) for path in ([self.labels] if isinstance(self.labels, str | Path) else self.labels or ())]
