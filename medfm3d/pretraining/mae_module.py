"""Training of a masked autoencoder on Lightning."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from medfm3d.pretraining.masked_network import MaskedNetwork
from medfm3d.pretraining.masking import seeded_generator
from medfm3d.pretraining.optimizer_numbers import number_by_module
from medfm3d.pretraining.scaled_blocks import scale_network
from medfm3d.pretraining.schedule import decay_groups, warmup_cosine

TRAINING, VALIDATION = 0, 1  # streams of masks


class MAEModule(pl.LightningModule):
    """Masked autoencoder with AdamW, warm-up and cosine by steps (He et al. 2022, appendix A.1).

    Masks are a function of seed, step and a window's number in the step's batch over all processes: a resumed run draws
    those of an uninterrupted one, several processes those of one, and the validation windows are hidden alike in every
    epoch. Batches are dictionaries with `image` (B, C, D, H, W).

    Args:
        network: what is trained.
        total_steps: optimiser steps at which the learning rate reaches 0.
        learning_rate: peak learning rate.
        warmup_steps: steps of linear rise; 5 % of the run if None.
        weight_decay: of matrices and kernels.
        seed: of the masks.
        compiled: compile the transformer blocks with `torch.compile`.

    Raises:
        ValueError: if the warm-up is not shorter than the run.
    """

    def __init__(
        self,
        network: MaskedNetwork,
        total_steps: int,
        learning_rate: float = 1e-3,
        warmup_steps: int | None = None,
        weight_decay: float = 0.05,
        seed: int = 0,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.seed = seed
        self.compiled = compiled
        self.schedule = warmup_cosine(total_steps // 20 if warmup_steps is None else warmup_steps, total_steps)

    def configure_model(self) -> None:
        """Compile and share out the network, as flag and strategy ask; Lightning calls it."""
        scale_network(self, self.network, compiled=self.compiled, entrances=("loss", "reconstruct"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the optimiser's state readable under any strategy; Lightning calls it."""
        number_by_module(self, checkpoint)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        loss = self._loss(batch["image"], TRAINING, self.global_step, batch_idx)
        self.log("train_loss", loss, prog_bar=True, sync_dist=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"])
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a validation batch; its mask depends on the batch's number alone."""
        loss = self._loss(batch["image"], VALIDATION, batch_idx)
        self.log("val_loss", loss, prog_bar=True, sync_dist=True, batch_size=batch["image"].shape[0])
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW and the learning rate's schedule by steps."""
        optimizer = torch.optim.AdamW(
            decay_groups(self.network, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.95)
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _loss(self, x: Tensor, *stream: int) -> Tensor:
        first = self.global_rank * len(x)
        masks = [
            self.network.draw_mask(x[n : n + 1], seeded_generator(self.seed, *stream, first + n)) for n in range(len(x))
        ]
        return self.network.loss(x, torch.cat(masks))
