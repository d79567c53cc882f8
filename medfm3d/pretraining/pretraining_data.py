"""Unlabelled cohorts as batches of windows for Lightning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from monai.utils import ensure_tuple_rep
from torch.utils.data import DataLoader

from medfm3d.pretraining.cohort_volumes import PretrainingCohort, prepare_entries, prepared_entries
from medfm3d.pretraining.step_loader import StepLoader
from medfm3d.pretraining.windows import StepSampler, WindowDataset, pretraining_augmentation
from medfm3d.volumes import VolumeError

TRAINING, VALIDATION, SPLIT = 0, 1, 2  # streams of random numbers


class PretrainingData(pl.LightningDataModule):
    """Random windows from several cohorts, mixed by their weights; an epoch is a number of steps.

    Volumes are prepared once, by the first process, and kept in `cache_dir`, unless a cohort lies in a store that
    `medfm3d data shard` has made. Some volumes of each cohort are held out
    for validation, whose windows are the same in every epoch. Trainers need `use_distributed_sampler=False`.

    Args:
        cohorts: cohorts, or mappings with the arguments of `PretrainingCohort`.
        cache_dir: folder for the prepared volumes.
        window: sides (D, H, W) in voxels; one number for a cube.
        batch_size: windows of a batch in each process.
        steps_per_epoch: batches of a training epoch.
        validation_windows: windows of a validation epoch, over all processes; no validation if 0.
        validation_fraction: share of each cohort's volumes held out, at least one; none if `validation_windows` is 0.
        workers: processes that load windows, beside each training process.
        seed: of the split and all windows.

    Raises:
        ValueError: if there is no cohort, or the fraction is not between 0 and 1.
    """

    def __init__(
        self,
        cohorts: Sequence[PretrainingCohort | Mapping[str, Any]],
        cache_dir: str | Path,
        window: int | Sequence[int] = (96, 96, 96),
        batch_size: int = 2,
        steps_per_epoch: int = 250,
        validation_windows: int = 16,
        validation_fraction: float = 0.05,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not cohorts:
            raise ValueError("no cohort to pretrain on: name at least one")
        if not 0 < validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {validation_fraction}")
        self.cohorts = [
            cohort if isinstance(cohort, PretrainingCohort) else PretrainingCohort(**cohort) for cohort in cohorts
        ]
        self.cache_dir = Path(cache_dir)
        self.window = ensure_tuple_rep(window, 3)
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.validation_windows = validation_windows
        self.validation_fraction = validation_fraction
        self.workers = workers
        self.seed = seed
        self.training_set: WindowDataset | None = None
        self.validation_set: WindowDataset | None = None

    @property
    def cohort_names(self) -> list[str]:
        """Names of the folders or files that the cohorts come from, without the path to them."""
        return [name for cohort in self.cohorts for name in cohort.names()]

    def prepare_data(self) -> None:
        """Preprocess all volumes that are not in the cache yet; Lightning calls it in one process of a machine."""
        for cohort in self.cohorts:
            prepare_entries(cohort, self.cache_dir)

    def setup(self, stage: str) -> None:
        """Split each cohort's volumes.

        Raises:
            VolumeError: if a cohort has a single volume, but validation was asked for.
        """
        training, validation = [], []
        for index, cohort in enumerate(self.cohorts):
            entries = prepared_entries(cohort, self.cache_dir)
            held_out = self._held_out(cohort, index, len(entries))
            training.append([entry for number, entry in enumerate(entries) if number not in held_out])
            validation.append([entries[number] for number in sorted(held_out)])
        weights = [cohort.weight for cohort in self.cohorts]
        self.training_set = self.training_dataset(training, weights)
        if self.validation_windows:
            self.validation_set = self.validation_dataset(validation, weights)

    def training_dataset(self, entries: list[list[Path]], weights: list[float]) -> WindowDataset:
        """Return the windows to learn from, given the prepared volumes of each cohort."""
        return WindowDataset(entries, weights, self.window, self.seed, TRAINING, pretraining_augmentation())

    def validation_dataset(self, entries: list[list[Path]], weights: list[float]) -> WindowDataset:
        """Return the windows to validate on, the same ones each time."""
        return WindowDataset(entries, weights, self.window, self.seed, VALIDATION)

    def train_dataloader(self) -> DataLoader:
        """Return the loader of training windows; it goes on where the trainer's step count stands."""
        trainer = self.trainer
        sampler = StepSampler(
            self.batch_size,
            self.steps_per_epoch,
            lambda: trainer.global_step * trainer.accumulate_grad_batches,
            trainer.global_rank,
            trainer.world_size,
        )
        return self._loader(self.training_set, sampler)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return the loader of validation windows, the same ones each time; no loader if there is no validation."""
        if self.validation_set is None:
            return []
        processes = self.trainer.world_size
        batches = -(-self.validation_windows // (self.batch_size * processes))
        sampler = StepSampler(self.batch_size, batches, lambda: 0, self.trainer.global_rank, processes)
        return self._loader(self.validation_set, sampler)

    def _held_out(self, cohort: PretrainingCohort, index: int, volumes: int) -> set[int]:
        if not self.validation_windows:
            return set()
        if volumes < 2:
            raise VolumeError(
                f"{cohort.images}: a single volume cannot be split for validation; add volumes or set "
                "validation_windows to 0"
            )
        count = min(volumes - 1, max(1, round(volumes * self.validation_fraction)))
        return set(np.random.default_rng([self.seed, SPLIT, index]).permutation(volumes)[:count].tolist())

    def _loader(self, dataset: WindowDataset, sampler: StepSampler) -> DataLoader:
        return StepLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )
