"""Training of student and teacher on Lightning."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from medfm3d.pretraining.dino.block_masks import block_masks
from medfm3d.pretraining.dino.self_distillation import DistillationLosses, SelfDistillation
from medfm3d.pretraining.masking import seeded_generator
from medfm3d.pretraining.scaled_blocks import compile_blocks
from medfm3d.pretraining.schedule import cosine_ramp, decay_groups, linear_ramp, warmup_cosine

TRAINING, VALIDATION = 0, 1  # streams of masks


class DINOModule(pl.LightningModule):
    """Self-distillation with AdamW and the schedules of DINOv2, all of them functions of the step.

    Masks are a function of seed, step and rank alone, and the teacher moves in the optimiser's step, so that a
    checkpoint holds both after the same step: a resumed run ends as an uninterrupted one. Batches are dictionaries with
    `global` (B, G, C, D, H, W) and `local` (B, L, C, d, h, w).

    Args:
        network: what is trained.
        total_steps: optimiser steps at which the schedules end.
        learning_rate: peak; it falls to a hundredth.
        warmup_steps: steps of its linear rise; 10 % of the run if None.
        weight_decay: of matrices and kernels, at the first step and at the last (cosine).
        momentum: of the teacher, at the first step and at the last (cosine).
        teacher_temperature: at the first step, and after its warm-up (linear).
        temperature_warmup_steps: steps of that; 30 % of the run if None.
        frozen_last_layer_steps: steps in which prototypes stay as they are; 1 % of the run if None.
        mask_share: share of the global views in which anything is hidden.
        mask_ratio: least and largest share of their units that is.
        ibot_weight: of the loss of hidden cells.
        koleo_weight: of the loss that keeps samples apart.
        seed: of the masks.
        compiled: compile the transformer blocks with `torch.compile`.

    Raises:
        ValueError: if the warm-up is not shorter than the run.
    """

    def __init__(
        self,
        network: SelfDistillation,
        total_steps: int,
        learning_rate: float = 5e-4,
        warmup_steps: int | None = None,
        weight_decay: Sequence[float] = (0.04, 0.2),
        momentum: Sequence[float] = (0.996, 1.0),
        teacher_temperature: Sequence[float] = (0.04, 0.07),
        temperature_warmup_steps: int | None = None,
        frozen_last_layer_steps: int | None = None,
        mask_share: float = 0.5,
        mask_ratio: Sequence[float] = (0.1, 0.5),
        ibot_weight: float = 1.0,
        koleo_weight: float = 0.1,
        seed: int = 0,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate = learning_rate
        self.mask_share = mask_share
        self.mask_ratio = tuple(mask_ratio)
        self.ibot_weight = ibot_weight
        self.koleo_weight = koleo_weight
        self.seed = seed
        self.compiled = compiled
        self.rate = warmup_cosine(total_steps // 10 if warmup_steps is None else warmup_steps, total_steps, 0.01)
        self.weight_decay = cosine_ramp(*weight_decay, total_steps)
        self.momentum = cosine_ramp(*momentum, total_steps)
        warm = total_steps * 3 // 10 if temperature_warmup_steps is None else temperature_warmup_steps
        self.teacher_temperature = linear_ramp(*teacher_temperature, warm)
        self.frozen_last_layer_steps = (
            total_steps // 100 if frozen_last_layer_steps is None else frozen_last_layer_steps
        )

    def configure_model(self) -> None:
        """Compile the blocks, if asked; Lightning calls it.

        Raises:
            ValueError: if the strategy shares weights out: the teacher follows whole ones.
        """
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            raise ValueError("self-distillation does not share its weights out over GPUs: set strategy to ddp")
        if self.compiled:
            compile_blocks(self.network)
            self.compiled = False  # a second call does nothing

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Return the loss of a batch, and the teacher's features and logits of it."""
        losses = self._losses(batch, TRAINING, self.global_step, batch_idx)
        loss = self._weighted(losses)
        self._log_parts("train", loss, losses, sync_dist=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"])
        self.log("teacher_momentum", self.momentum(self.global_step))
        return {
            "loss": loss,
            "view_features": losses.view_features,
            "cell_features": losses.cell_features,
            "view_logits": losses.view_logits,
        }

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a validation batch; its mask depends on the batch's number alone."""
        losses = self._losses(batch, VALIDATION, batch_idx)
        loss = self._weighted(losses)
        self._log_parts("val", loss, losses, sync_dist=True, batch_size=len(batch["global"]))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW and the learning rate's schedule by steps."""
        groups = decay_groups(self.network, self.weight_decay(0))
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.999))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the weight decay of this step, and keep the prototypes as they are while they are frozen."""
        optimizer.param_groups[0]["weight_decay"] = self.weight_decay(self.global_step)
        if self.global_step < self.frozen_last_layer_steps:
            for prototypes in self.network.last_layers():
                prototypes.grad = None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the student, then the teacher: before a checkpoint of this step can be written."""
        step = self.global_step
        super().optimizer_step(*args, **kwargs)
        self.network.update_teacher(self.momentum(step))

    def _losses(self, batch: dict[str, Any], *stream: int) -> DistillationLosses:
        views = batch["global"]
        grid = self.network.student.encoder.unit_grid(views.shape[3:])
        generator = seeded_generator(self.seed, *stream, self.global_rank)
        samples = views.shape[0] * views.shape[1]
        mask = block_masks(samples, grid, generator, share=self.mask_share, ratio=self.mask_ratio).to(views.device)
        temperature = self.teacher_temperature(self.global_step)
        return self.network.losses(views, batch["local"], mask, temperature, koleo=self.koleo_weight > 0)

    def _weighted(self, losses: DistillationLosses) -> Tensor:
        loss = losses.dino + self.ibot_weight * losses.ibot
        return loss if losses.koleo is None else loss + self.koleo_weight * losses.koleo

    def _log_parts(self, stage: str, loss: Tensor, losses: DistillationLosses, **how: Any) -> None:
        self.log(f"{stage}_loss", loss, prog_bar=True, **how)
        for part in ("dino", "ibot", "koleo"):
            value = getattr(losses, part)
            if value is not None:
                self.log(f"{stage}_{part}", value.detach(), **how)
