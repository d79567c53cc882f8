"""Whatever a step draws follows from the seed and the step."""

from typing import Any

import lightning.pytorch as pl
import torch

from medfm3d.pretraining.masking import seeded_generator


class StepSeed(pl.Callback):
    """Seeds torch's generators at each step from (seed, step, batch, process).

    Masks and windows have generators of their own; this is for what draws from torch's, such as stochastic depth. A run
    that goes on from a checkpoint then draws what an uninterrupted one does, without any state saved.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the CPU's generator and those of all GPUs."""
        generator = seeded_generator(self.seed, trainer.global_step, batch_idx, trainer.global_rank)
        torch.manual_seed(generator.initial_seed())
