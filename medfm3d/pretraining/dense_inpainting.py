"""Pretraining of a dense decoder: filling holes, at full resolution, behind a frozen encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medfm3d.encoders import Encoder, save_weights
from medfm3d.pretraining.masking import random_mask, seeded_generator
from medfm3d.pretraining.schedule import decay_groups, warmup_cosine

TRAINING, VALIDATION = 0, 1  # streams of corruptions


class DenseInpainting(pl.LightningModule):
    """A decoder learns to restore windows with hidden cubes and noise from the image and a frozen encoder's pyramid.

    A masked autoencoder trains the encoder alone; what turns tokens into features of single voxels starts from nothing
    in each adaptation. Here that part is pretrained on the same unlabelled scans. Cubes of 4 or 8 voxels are hidden,
    noise is added, and the loss is the mean absolute error over all voxels, as in Model Genesis (Zhou et al. 2021,
    Medical Image Analysis 67), of whose corruptions in-painting and noise are used.

    Args:
        encoder: frozen; called under `torch.no_grad`.
        decoder: `decoder(x, pyramid)` gives (B, feature_channels, D, H, W).
        feature_channels: channels of the decoder's output.
        total_steps: optimiser steps at which the learning rate reaches 0.
        learning_rate: peak learning rate of AdamW.
        mask_ratio: share of hidden cubes.
        cube_sides: sides of the cubes in voxels; one is drawn for each batch.
        noise: standard deviation of the noise added to the visible voxels.
        seed: of the corruptions.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        feature_channels: int,
        total_steps: int,
        learning_rate: float = 2e-3,
        mask_ratio: float = 0.5,
        cube_sides: Sequence[int] = (4, 8),
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.decoder = decoder
        self.head = nn.Conv3d(feature_channels, encoder.in_channels, kernel_size=1)
        self.learning_rate = learning_rate
        self.mask_ratio = mask_ratio
        self.cube_sides = tuple(cube_sides)
        self.noise = noise
        self.seed = seed
        self.schedule = warmup_cosine(total_steps // 20, total_steps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the restored window, (B, C, D, H, W), of a corrupted one."""
        with torch.no_grad():
            pyramid = self.encoder(x)
        return self.head(self.decoder(x, pyramid))

    def corrupt(self, x: Tensor, *stream: int) -> Tensor:
        """Return a copy of (B, C, D, H, W) with hidden cubes (0, the mean of standardised scans) and noise."""
        generator = seeded_generator(self.seed, *stream, self.global_rank)
        side = self.cube_sides[int(torch.randint(len(self.cube_sides), (1,), generator=generator))]
        grid = [extent // side for extent in x.shape[2:]]
        mask = random_mask(x.shape[0], grid[0] * grid[1] * grid[2], self.mask_ratio, generator)
        hidden = F.interpolate(mask.view(-1, 1, *grid).float(), x.shape[2:], mode="nearest").to(x.device)
        noise = torch.randn(x.shape, generator=generator).to(x.device) * self.noise
        return (x + noise) * (1 - hidden)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        loss = self._loss(batch["image"], TRAINING, self.global_step, batch_idx)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a validation batch; its corruption depends on the batch's number alone."""
        loss = self._loss(batch["image"], VALIDATION, batch_idx)
        self.log("val_loss", loss, prog_bar=True, sync_dist=True, batch_size=batch["image"].shape[0])
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW for decoder and head, and the learning rate's schedule by steps."""
        trained = nn.ModuleList([self.decoder, self.head])
        optimizer = torch.optim.AdamW(decay_groups(trained, 1e-2), lr=self.learning_rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _loss(self, x: Tensor, *stream: int) -> Tensor:
        return F.l1_loss(self(self.corrupt(x, *stream)), x)


class ExportDecoder(pl.Callback):
    """At the end of training, write the decoder with a header that says how it came to be.

    Args:
        path: safetensors file.
        provenance: what the header shall hold beside the method, step count, seed and losses; any JSON values.
    """

    def __init__(self, path: str | Path, provenance: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.provenance = dict(provenance or {})

    def on_train_end(self, trainer: pl.Trainer, pl_module: DenseInpainting) -> None:
        """Write the file, in the first process alone."""
        if not trainer.is_global_zero:
            return
        measured = {name: trainer.callback_metrics.get(name) for name in ("train_loss", "val_loss")}
        provenance = {
            "method": "dense in-painting",
            "mask_ratio": pl_module.mask_ratio,
            "cube_sides": list(pl_module.cube_sides),
            "steps": trainer.global_step,
            "seed": pl_module.seed,
            **{name: None if value is None else value.item() for name, value in measured.items()},
            **self.provenance,
        }
        save_weights(pl_module.decoder, self.path, architecture="light_decoder", provenance=provenance)
