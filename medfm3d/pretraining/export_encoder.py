"""The pretrained encoder as a weights file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from medfm3d.encoders import Encoder, save_encoder
from medfm3d.pretraining.scaled_blocks import whole_state


class ExportEncoder(pl.Callback):
    """At the end of training, write the encoder with a header that says how it came to be.

    Args:
        path: safetensors file.
        name: the encoder's name in `medfm3d.encoders.ENCODERS`.
        provenance: what the header shall hold beside the method, step count, seed and losses; any JSON values.
        arguments: of the encoder, that differ from those of its name.
    """

    def __init__(
        self,
        path: str | Path,
        name: str,
        provenance: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.name = name
        self.arguments = dict(arguments or {})
        self.provenance = dict(provenance or {})
        self._first: Tensor | None = None  # kept as tensors: turning each into a number would make a GPU wait
        self._last: Tensor | None = None

    @property
    def first_loss(self) -> float | None:
        """Training loss of the first step of this run; None before it."""
        return None if self._first is None else self._first.item()

    @property
    def last_loss(self) -> float | None:
        """Training loss of the latest step; None before the first."""
        return None if self._last is None else self._last.item()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Mapping[str, Any], batch: Any, batch_idx: int
    ) -> None:
        """Remember the loss."""
        self._last = outputs["loss"].detach()
        if self._first is None:
            self._first = self._last

    def encoder(self, pl_module: pl.LightningModule) -> Encoder:
        """Return the encoder that is written."""
        return pl_module.network.encoder

    def method(self, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what the header says of the method."""
        return {"method": pl_module.network.method, "mask_ratio": pl_module.network.mask_ratio}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file, in the first process alone."""
        state = whole_state(self.encoder(pl_module))  # by all processes, if they share the weights out
        if not trainer.is_global_zero:
            return
        validation = trainer.callback_metrics.get("val_loss")
        provenance = {
            **self.method(pl_module),
            "steps": trainer.global_step,
            "seed": pl_module.seed,
            "train_loss": self.last_loss,
            "val_loss": None if validation is None else validation.item(),
            **self.provenance,
        }
        save_encoder(state, self.path, name=self.name, arguments=self.arguments, provenance=provenance)
