"""Pairs of synthesised images of one label map, as batches for Lightning."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from monai.transforms.utils import create_rotate
from monai.utils import ensure_tuple_rep
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medfm3d.pretraining.image_synthesis import synthesise_image
from medfm3d.pretraining.label_maps import LabelMapCohort
from medfm3d.pretraining.random_shapes import random_shapes
from medfm3d.pretraining.windows import StepSampler
from medfm3d.volumes.window_sampling import sample_at, window_places

TRAINING, VALIDATION = 0, 1  # streams of random numbers
ROTATION_RAD = 0.3
BENDING = 0.03  # spread of the displacements as a share of the window
BENDING_POINTS = 5
LABELLED_SHARE = 0.05  # of a window's voxels, below which another place is drawn


class SynthesisDataset(Dataset):
    """Window number i of an endless sequence: label map, place, deformation and images follow from (seed, stream, i).

    An item has `image`, two images of other contrast and equal geometry, (2, 1, D, H, W); `label`, (D, H, W) int64;
    and `source`, the number of the cohort.

    Args:
        cohorts: where label maps come from.
        window: sides (D, H, W) in voxels.
        seed: of everything drawn.
        stream: tells sequences of one seed apart.
    """

    def __init__(self, cohorts: Sequence[LabelMapCohort], window: Sequence[int], seed: int, stream: int) -> None:
        self.cohorts = list(cohorts)
        weights = np.array([cohort.weight for cohort in cohorts])
        self.probabilities = weights / weights.sum()
        self.window = tuple(window)
        self.seed = seed
        self.stream = stream

    def __getitem__(self, number: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, self.stream, number])
        source = int(rng.choice(len(self.cohorts), p=self.probabilities))
        cohort = self.cohorts[source]
        label = random_shapes(self.window, rng) if cohort.labels is None else self._label_window(cohort, rng)
        image = torch.stack([synthesise_image(label, rng) for _ in range(2)])
        return {"image": image, "label": label, "source": source}

    def _label_window(self, cohort: LabelMapCohort, rng: np.random.Generator) -> Tensor:
        volume = cohort.maps[rng.integers(len(cohort.maps))]
        for _ in range(8):
            zoom = np.exp(rng.uniform(*np.log(cohort.zoom))) * rng.uniform(0.85, 1.15, 3)
            rotation = create_rotate(3, rng.uniform(-ROTATION_RAD, ROTATION_RAD, 3).tolist())[:3, :3]
            extent = np.array(self.window) * zoom
            sides = np.array(volume.shape[1:])
            # The window's middle stays where at least half of the window is in the map.
            centre = rng.uniform(np.minimum(extent / 4, sides / 2), np.maximum(sides - extent / 4, sides / 2))
            bending = rng.standard_normal((1, 3, *(BENDING_POINTS,) * 3)) * BENDING * extent.reshape(1, 3, 1, 1, 1)
            places = window_places(self.window, centre, rotation @ np.diag(zoom), bending)
            label = sample_at(volume, places, "nearest", "zeros")[0].long()
            if (label > 0).float().mean() >= LABELLED_SHARE:
                break
        return label


class SynthesisData(pl.LightningDataModule):
    """Endless synthetic images; an epoch is a number of steps.

    Args:
        cohorts: cohorts of label maps, or mappings with the arguments of `LabelMapCohort`.
        window: sides (D, H, W) in voxels; one number for a cube.
        batch_size: label maps of a batch in each process; each gives two images.
        steps_per_epoch: batches of a training epoch.
        validation_windows: label windows of a validation epoch, over all processes; no validation if 0.
        workers: processes that make windows, beside each training process.
        seed: of all windows.

    Raises:
        ValueError: if there is no cohort.
    """

    def __init__(
        self,
        cohorts: Sequence[LabelMapCohort | Mapping[str, Any]],
        window: int | Sequence[int] = (64, 64, 64),
        batch_size: int = 1,
        steps_per_epoch: int = 250,
        validation_windows: int = 16,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not cohorts:
            raise ValueError("no label maps to synthesise images from: name at least one cohort")
        self.cohorts = [c if isinstance(c, LabelMapCohort) else LabelMapCohort(**c) for c in cohorts]
        self.window = ensure_tuple_rep(window, 3)
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.validation_windows = validation_windows
        self.workers = workers
        self.seed = seed

    @property
    def cohort_names(self) -> list[str]:
        """Names of the cohorts, without paths."""
        return [cohort.name for cohort in self.cohorts]

    @property
    def channels(self) -> list[int]:
        """Number of labels of each cohort; 0 where they have no meaning."""
        return [cohort.channels for cohort in self.cohorts]

    def train_dataloader(self) -> DataLoader:
        """Return the loader of training windows; it goes on where the trainer's step count stands."""
        trainer = self.trainer
        return self._loader(
            TRAINING, self.steps_per_epoch, lambda: trainer.global_step * trainer.accumulate_grad_batches
        )

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return the loader of validation windows, the same ones each time; no loader if there is no validation."""
        if not self.validation_windows:
            return []
        return self._loader(VALIDATION, -(-self.validation_windows // (self.batch_size * self.trainer.world_size)))

    def _loader(self, stream: int, batches: int, due: Any = lambda: 0) -> DataLoader:
        sampler = StepSampler(self.batch_size, batches, due, self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(
            SynthesisDataset(self.cohorts, self.window, self.seed, stream),
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )
