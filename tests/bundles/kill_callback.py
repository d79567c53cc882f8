"""Put into a bundle's run by a test: the process dies without being asked."""

import os
import signal
from typing import Any

import lightning.pytorch as pl


class KillAt(pl.Callback):
    """Kills the process with SIGKILL when a step begins."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
