"""Pretraining of encoder and decoder on images synthesised from label maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from medfm3d.encoders import Encoder, file_sha256, save_encoder, save_weights
from medfm3d.pretraining.masking import seeded_generator
from medfm3d.pretraining.schedule import decay_groups, warmup_cosine
from medfm3d.pretraining.voxel_contrast import voxel_contrastive_loss

TRAINING, VALIDATION = 0, 1  # streams of drawn voxels
EMBEDDING = 32


class RandomisedSynthesis(pl.LightningModule):
    """Encoder and decoder learn structures from images of random contrast.

    Two objectives on the decoder's features: a classifier for each cohort of label maps names the structures (Billot et
    al. 2023, SynthSeg), and a projection makes voxels of one structure alike, and of others unlike, in two differently
    synthesised images of one label map (Dey et al. 2025, anatomix), which needs no names and so works on random shapes.

    Args:
        encoder: trained at `encoder_learning_rate`; frozen if that is 0.
        decoder: `decoder(x, pyramid)` gives (B, feature_channels, D, H, W).
        feature_channels: channels of the decoder's output.
        channels: labels of each cohort; 0 where they have no meaning, so that only the contrast is learnt.
        total_steps: optimiser steps at which the learning rate reaches 0.
        learning_rate: peak learning rate of AdamW for the decoder.
        encoder_learning_rate: the same for the encoder.
        contrast_weight: of the contrastive loss beside Dice and cross-entropy.
        seed: of the drawn voxels.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        feature_channels: int,
        channels: Sequence[int],
        total_steps: int,
        learning_rate: float = 2e-3,
        encoder_learning_rate: float = 3e-4,
        contrast_weight: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder if encoder_learning_rate else encoder.eval().requires_grad_(False)
        self.decoder = decoder
        self.classifiers = nn.ModuleList(
            nn.Conv3d(feature_channels, count, kernel_size=1) if count else nn.Identity() for count in channels
        )
        self.projection = nn.Sequential(
            nn.Conv3d(feature_channels, EMBEDDING, kernel_size=1), nn.GELU(), nn.Conv3d(EMBEDDING, EMBEDDING, 1)
        )
        self.channels = tuple(channels)
        self.learning_rate = learning_rate
        self.encoder_learning_rate = encoder_learning_rate
        self.contrast_weight = contrast_weight
        self.seed = seed
        self.segmentation_loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
        self.schedule = warmup_cosine(total_steps // 20, total_steps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, (B, feature_channels, D, H, W), of images (B, C, D, H, W)."""
        return self.decoder(x, self.encoder(x))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        return self._logged_loss("train", batch, TRAINING, self.global_step, batch_idx)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a validation batch."""
        return self._logged_loss("val", batch, VALIDATION, batch_idx)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with a rate for each part, and their schedule by steps."""
        new = nn.ModuleList([self.decoder, self.classifiers, self.projection])
        groups = [{**group, "lr": self.learning_rate} for group in decay_groups(new, 1e-2)]
        groups += [{**group, "lr": self.encoder_learning_rate} for group in decay_groups(self.encoder, 0.05)]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _logged_loss(self, name: str, batch: dict[str, Any], *stream: int) -> Tensor:
        images, labels = batch["image"], batch["label"]
        generator = seeded_generator(self.seed, *stream, self.global_rank)
        features = self(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        segmentation, contrast = [], []
        for views, label, source in zip(features, labels, batch["source"].tolist(), strict=True):
            contrast.append(voxel_contrastive_loss(self.projection(views), label, generator))
            if self.channels[source]:
                target = label[None, None].expand(2, -1, -1, -1, -1)
                segmentation.append(self.segmentation_loss(self.classifiers[source](views).float(), target))
        losses = {"contrast": torch.stack(contrast).mean()}
        if segmentation:
            losses["segmentation"] = torch.stack(segmentation).mean()
        loss = losses.get("segmentation", 0.0) + self.contrast_weight * losses["contrast"]
        for part, value in {**losses, "loss": loss}.items():
            self.log(f"{name}_{part}", value, prog_bar=True, sync_dist=name == "val", batch_size=len(labels))
        return loss


class ExportEncoderAndDecoder(pl.Callback):
    """At the end of training, write encoder and decoder with headers that say how they came to be.

    Args:
        encoder_path: safetensors file of the encoder.
        decoder_path: safetensors file of the decoder; its header names the encoder by its SHA-256.
        name: the encoder's name in `medfm3d.encoders.ENCODERS`.
        provenance: what both headers shall hold beside the method, step count, seed and losses; any JSON values.
    """

    def __init__(
        self,
        encoder_path: str | Path,
        decoder_path: str | Path,
        name: str,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.encoder_path = Path(encoder_path)
        self.decoder_path = Path(decoder_path)
        self.name = name
        self.provenance = dict(provenance or {})

    def on_train_end(self, trainer: pl.Trainer, pl_module: RandomisedSynthesis) -> None:
        """Write the files, in the first process alone."""
        if not trainer.is_global_zero:
            return
        names = [f"{stage}_{part}" for stage in ("train", "val") for part in ("segmentation", "contrast", "loss")]
        measured = {name: trainer.callback_metrics.get(name) for name in names}
        provenance = {
            "method": "randomised synthesis",
            "contrast_weight": pl_module.contrast_weight,
            "steps": trainer.global_step,
            "seed": pl_module.seed,
            **{name: None if value is None else value.item() for name, value in measured.items()},
            **self.provenance,
        }
        save_encoder(pl_module.encoder, self.encoder_path, name=self.name, provenance=provenance)
        provenance["encoder_sha256"] = file_sha256(self.encoder_path)
        save_weights(pl_module.decoder, self.decoder_path, architecture="light_decoder", provenance=provenance)
