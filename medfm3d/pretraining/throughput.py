"""How fast a pretraining run is, and what it waits for, in its log."""

import time
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from medfm3d.pretraining.step_loader import StepLoader
from medfm3d.pretraining.training_flops import TrainingFlops


class Throughput(pl.Callback):
    """Logs, with the losses, what was measured since the last time; the first step, which warms up, does not count.

    windows_per_s and voxels_per_s, over all processes; data_wait, the share of the time that this process waited for
    data; gpu_memory_gib, the most that tensors took on a GPU; and, with `peak_tflops`, mfu, the model FLOP utilisation:
    operations of forward and backward pass a second over the device's peak (Chowdhery et al. 2022, PaLM, appendix B).
    Validation does not count; checkpoints and pictures do, since training waits for them.

    Args:
        peak_tflops: 10^12 operations a second that one device has at the precision of the run, without sparsity; 989
            for an H100 SXM in bfloat16.

    Raises:
        ValueError: if the peak is not positive.
        TypeError: at the start, if the training loader is no `StepLoader`: others do not know how long they are waited
            for.
    """

    def __init__(self, peak_tflops: float | None = None) -> None:
        if peak_tflops is not None and not peak_tflops > 0:
            raise ValueError(f"peak_tflops must be positive, got {peak_tflops}")
        self.peak_tflops = peak_tflops
        self.flops_per_batch: int | None = None
        self._counting: TrainingFlops | None = None
        self._warm = False
        self._start_interval(0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the loader."""
        if not isinstance(trainer.train_dataloader, StepLoader):
            raise TypeError(f"throughput needs a StepLoader, not {type(trainer.train_dataloader).__name__}")
        self._warm = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the clock run."""
        self._go_on()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._elapsed_s += time.perf_counter() - self._since_s

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the clock run again."""
        self._go_on()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the operations of the first batch."""
        if self.peak_tflops is not None and self.flops_per_batch is None:
            self._counting = TrainingFlops()
            self._counting.__enter__()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up the batch; log, where the trainer logs."""
        if self._counting is not None:
            self._counting.__exit__(None, None, None)
            self.flops_per_batch, self._counting = self._counting.total, None
        loader = trainer.train_dataloader
        if not self._warm:
            self._warm = True
            self._start_interval(loader.waited_s)
            return
        self._batches += 1
        self._windows += len(_first_tensor(batch))
        self._voxels += _first_tensor(batch).numel()
        stepped = trainer.global_step % trainer.log_every_n_steps == 0
        if stepped and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._log(trainer, pl_module, loader)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loader: StepLoader) -> None:
        device = pl_module.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what was started is not yet done
        elapsed_s = self._elapsed_s + time.perf_counter() - self._since_s
        processes = trainer.world_size
        values = {
            "windows_per_s": processes * self._windows / elapsed_s,
            "voxels_per_s": processes * self._voxels / elapsed_s,
            "data_wait": (loader.waited_s - self._waited_before_s) / elapsed_s,
        }
        if self.flops_per_batch is not None:
            values["mfu"] = self.flops_per_batch * self._batches / elapsed_s / (self.peak_tflops * 1e12)
        if device.type == "cuda":
            values["gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step - 1)  # the step's number, as of the losses
        self._start_interval(loader.waited_s)

    def _start_interval(self, waited_s: float) -> None:
        self._batches = self._windows = self._voxels = 0
        self._elapsed_s = 0.0
        self._since_s = time.perf_counter()
        self._waited_before_s = waited_s

    def _go_on(self) -> None:
        self._since_s = time.perf_counter()


def _first_tensor(batch: Any) -> Tensor:
    return next(value for value in batch.values() if isinstance(value, Tensor))
