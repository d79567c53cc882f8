"""Windows to learn promptable segmentation from: labelled scans, and images synthesised from label maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, RandAdjustContrast, RandGaussianNoise, RandGaussianSmooth, RandScaleIntensity
from monai.transforms.utils import create_rotate
from torch import Tensor
from torch.utils.data import Dataset

from medfm3d.pretraining.image_synthesis import CLIP, synthesise_image
from medfm3d.pretraining.random_shapes import random_shapes
from medfm3d.volumes import (
    IntensityNormalized,
    VolumeError,
    check_same_grid,
    find_volumes,
    read_label,
    read_volume,
    reorient,
)
from medfm3d.volumes.window_sampling import sample_at, window_places

ROTATION_RAD = 0.3
BENDING = 0.03  # spread of the displacements as a share of the window
BENDING_POINTS = 5
THICK_SLICES = 0.3  # share of windows with one axis of larger voxels
LABELLED_SHARE = 0.02  # of a window's voxels, below which another place is drawn
SIDES = (32, 40, 48)


@dataclass(frozen=True)
class LabelledCohort:
    """Label maps, and their scans where there are any.

    Attributes:
        labels: folder of label maps, or files; None for random shapes.
        images: folder of their scans, or files, in the same order; None to synthesise images from the label maps.
        names: what a label number is called.
        merged: label numbers to replace by others, such as {17: 3}: organs that a network must not learn, because it
            will be judged by them, become part of their surroundings; those that become 0 are never asked for.
        modality: "CT", "MR" or "auto", of the scans.
        weight: how often its windows are drawn, relative to the other cohorts.
        zoom: least and largest number of voxels along one of the window's.
    """

    labels: str | Path | Sequence[str | Path] | None = None
    images: str | Path | Sequence[str | Path] | None = None
    names: Mapping[int | str, str] = field(default_factory=dict)  # JSON has strings for keys
    merged: Mapping[int | str, int] = field(default_factory=dict)
    modality: str = "auto"
    weight: float = 1.0
    zoom: tuple[float, float] = (0.6, 1.5)

    def __post_init__(self) -> None:
        if not self.weight > 0 or not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"weight and zoom must be positive and zoom in order: {self.weight}, {self.zoom}")
        if self.images is not None and self.labels is None:
            raise ValueError("scans need label maps: name them too")

    @cached_property
    def cases(self) -> list[tuple[Tensor, Tensor | None]]:
        """Label maps (1, I, J, K) int16 in RAS and their scans, float32 and standardised; read once.

        Raises:
            VolumeError: if there is none, or scans and label maps do not belong together.
        """
        labels, images = _files(self.labels), _files(self.images)
        if not labels or (images and len(images) != len(labels)):
            raise VolumeError(f"{self.labels}: {len(labels)} label maps for {len(images)} scans; give one for each")
        return [self._case(label, images[number] if images else None) for number, label in enumerate(labels)]

    def organ(self, number: int) -> str | None:
        """Return the name of a label number, None if it has none."""
        return self.names.get(number, self.names.get(str(number)))

    def _case(self, label: Path, image: Path | None) -> tuple[Tensor, Tensor | None]:
        outlined = read_label(label)
        array = reorient(outlined).array.astype(np.int16)
        changed = array.copy()
        for old, new in self.merged.items():
            changed[array == int(old)] = new
        scan = None
        if image is not None:
            volume = read_volume(image)
            check_same_grid(volume, outlined)
            whole = torch.from_numpy(np.ascontiguousarray(reorient(volume).array, dtype=np.float32))[None]
            scan = IntensityNormalized("image", self.modality)({"image": whole})["image"]
        return torch.from_numpy(changed)[None], scan


class LabelledWindows(Dataset):
    """Window number i of an endless sequence: cohort, case, place and appearance follow from (seed, stream, i).

    An item has `image`, (1, D, H, W); `label`, (D, H, W) int16 with the cohort's numbers; and `cohort`, its number.
    Sides are drawn from `sides` for each axis. Windows are mirrored, since what is pointed at needs no side.

    Args:
        cohorts: where windows come from.
        seed: of everything drawn.
        stream: tells sequences of one seed apart.
        sides: possible sides of a window, multiples of what the network needs.
    """

    def __init__(self, cohorts: Sequence[LabelledCohort], seed: int, stream: int, sides: Sequence[int] = SIDES) -> None:
        self.cohorts = list(cohorts)
        weights = np.array([cohort.weight for cohort in cohorts])
        self.probabilities = weights / weights.sum()
        self.seed = seed
        self.stream = stream
        self.sides = tuple(sides)
        self.appearance = Compose(
            [
                RandGaussianSmooth(prob=0.2, sigma_x=(0.3, 0.9), sigma_y=(0.3, 0.9), sigma_z=(0.3, 0.9)),
                RandScaleIntensity(prob=0.4, factors=0.4),
                RandAdjustContrast(prob=0.4, gamma=(0.6, 1.65), retain_stats=True),
                RandGaussianNoise(prob=0.4, std=0.2),
            ]
        )

    def __getitem__(self, number: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, self.stream, number])
        source = int(rng.choice(len(self.cohorts), p=self.probabilities))
        cohort = self.cohorts[source]
        window = tuple(rng.choice(self.sides, 3).tolist())
        if cohort.labels is None:
            label, image = random_shapes(window, rng), None
        else:
            label, image = self._window(cohort, window, rng)
        if image is None:
            names = torch.unique(label)  # synthesis wants numbers without gaps
            image = synthesise_image(torch.searchsorted(names, label.contiguous()), rng)
        else:
            self.appearance.set_random_state(seed=int(rng.integers(2**32)))
            image = torch.as_tensor(self.appearance(image)).clamp(-CLIP, CLIP)
        mirrored = [axis for axis in range(3) if rng.random() < 0.5]
        image, label = image.flip([axis + 1 for axis in mirrored]), label.flip(mirrored)
        return {"image": image, "label": label.to(torch.int16), "cohort": source}

    def _window(
        self, cohort: LabelledCohort, window: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        label_map, scan = cohort.cases[rng.integers(len(cohort.cases))]
        sides = np.array(label_map.shape[1:])
        for _ in range(8):
            zoom = np.exp(rng.uniform(*np.log(cohort.zoom))) * rng.uniform(0.85, 1.15, 3)
            if rng.random() < THICK_SLICES:
                zoom[rng.integers(3)] *= rng.uniform(1, 3)
            rotation = create_rotate(3, rng.uniform(-ROTATION_RAD, ROTATION_RAD, 3).tolist())[:3, :3]
            extent = np.array(window) * zoom
            # The window's middle stays where at least half of the window is in the map.
            centre = rng.uniform(np.minimum(extent / 4, sides / 2), np.maximum(sides - extent / 4, sides / 2))
            bending = rng.standard_normal((1, 3, *(BENDING_POINTS,) * 3)) * BENDING * extent.reshape(1, 3, 1, 1, 1)
            places = window_places(window, centre, rotation @ np.diag(zoom), bending)
            label = sample_at(label_map, places, "nearest", "zeros")[0].long()
            if (label > 0).float().mean() >= LABELLED_SHARE:
                break
        return label, None if scan is None else sample_at(scan, places, "bilinear", "border")


def _files(paths: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """Return the files of a folder, or those named."""
    named = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths or ())]
    return [file for path in named for file in (find_volumes(path) if path.is_dir() else [path])]
