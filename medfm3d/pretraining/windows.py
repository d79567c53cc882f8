"""Random windows of prepared volumes, each a function of its number alone."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Compose, RandFlip, RandScaleIntensity, RandShiftIntensity, Transform
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medfm3d.cohorts.volume_store import StoredVolume


class WindowDataset(Dataset):
    """Window number i of an endless sequence: its volume, place and augmentation follow from (seed, stream, i).

    So a run that is resumed at step s goes on with the very windows that it would have seen, without any state saved.

    Args:
        entries: prepared volumes of each cohort, as `prepared_entries`.
        weights: how often each cohort is drawn.
        window: sides (D, H, W) in voxels; smaller volumes are padded with their least value.
        seed: of everything drawn.
        stream: tells sequences of one seed apart, such as training from validation.
        augmentation: random MONAI transform of a (1, D, H, W) window; none if None.
    """

    def __init__(
        self,
        entries: Sequence[Sequence[Path | StoredVolume]],
        weights: Sequence[float],
        window: Sequence[int],
        seed: int,
        stream: int,
        augmentation: Compose | None = None,
    ) -> None:
        self.entries = [list(paths) for paths in entries]
        self.probabilities = np.asarray(weights, dtype=float) / np.sum(weights)
        self.window = tuple(window)
        self.seed = seed
        self.stream = stream
        self.augmentation = augmentation

    def __getitem__(self, number: int) -> dict[str, Any]:
        volume, rng = self.draw(number)
        window = random_window(volume, self.window, rng)
        if self.augmentation is not None:
            self.augmentation.set_random_state(seed=int(rng.integers(2**32)))
            window = self.augmentation(window)
        return {"image": torch.as_tensor(window)}

    def draw(self, number: int) -> tuple[Tensor | StoredVolume, np.random.Generator]:
        """Return the volume (1, I, J, K) that item `number` is cut from, and the generator that draws the rest."""
        rng = np.random.default_rng([self.seed, self.stream, number])
        cohort = self.entries[rng.choice(len(self.entries), p=self.probabilities)]
        return open_volume(cohort[rng.integers(len(cohort))]), rng


def open_volume(entry: Path | StoredVolume) -> Tensor | StoredVolume:
    """Return a prepared volume (1, I, J, K) of which what is sliced out is read: pages of a file, or chunks."""
    if isinstance(entry, StoredVolume):
        return entry
    return torch.load(entry, weights_only=True, mmap=True)["image"]


def random_window(volume: Tensor | StoredVolume, window: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Cut a window at a random place out of (1, I, J, K); along shorter axes the volume lies at a random place in it.

    Returns:
        (1, *window) float32; what lies outside the volume has the least value of the part inside.
    """
    slices, padding = [slice(None)], []
    for side, wanted in zip(volume.shape[1:], window, strict=True):
        start = int(rng.integers(abs(side - wanted) + 1))
        if side >= wanted:
            slices.append(slice(start, start + wanted))
            padding.append((0, 0))
        else:
            slices.append(slice(None))
            padding.append((start, wanted - side - start))
    cut = volume[tuple(slices)].float()
    last_axis_first = [amount for pair in reversed(padding) for amount in pair]
    return F.pad(cut, last_axis_first, value=cut.min().item())


def pretraining_augmentation() -> Compose:
    """Return flips along each axis and slight changes of brightness and contrast, for (1, D, H, W) windows."""
    flips: list[Transform] = [RandFlip(prob=0.5, spatial_axis=axis) for axis in range(3)]
    return Compose([*flips, RandScaleIntensity(factors=0.1, prob=0.5), RandShiftIntensity(offsets=0.1, prob=0.5)])


class StepSampler(Sampler[int]):
    """Window numbers of one epoch, from the batch that is due; each process takes its own part of every batch.

    Args:
        batch_size: windows of a batch in one process.
        batches: batches of an epoch.
        due: returns the number of batches that the run has seen, asked when an epoch begins.
        rank: this process.
        processes: how many train together.
    """

    def __init__(self, batch_size: int, batches: int, due: Callable[[], int], rank: int = 0, processes: int = 1):
        self.batch_size = batch_size
        self.batches = batches
        self.due = due
        self.rank = rank
        self.processes = processes

    def __len__(self) -> int:
        return self.batch_size * self.batches

    def __iter__(self) -> Iterator[int]:
        first = (self.due() * self.processes + self.rank) * self.batch_size
        for batch in range(self.batches):
            start = first + batch * self.processes * self.batch_size
            yield from range(start, start + self.batch_size)
