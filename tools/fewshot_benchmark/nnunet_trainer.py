"""nnU-Net's own trainer, made to end within a budget of CPU seconds."""

import json
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainerNoMirroring,
)

from fewshot_benchmark.budget import Budget
from fewshot_benchmark.clock import cpu_seconds
from medfm3d.volumes import write_json

EPOCHS = 50  # nnU-Net lowers its learning rate once an epoch: 50 steps follow its curve closely
SAVE_EVERY_CPU_S = 300.0
LATEST = "checkpoint_latest.pth"
FINAL = "checkpoint_final.pth"
SCHEDULE = "schedule.json"


class BudgetMixin(nnUNetTrainer):
    """Ends within a budget; network, loss, optimiser, augmentation and sampling stay nnU-Net's.

    The first iterations, done at the learning rate with which training starts, tell what an iteration costs; how many
    fit into the budget follows from that, and nnU-Net's schedule is laid over that number. Two things are left out in
    nnU-Net's favour, since neither changes the network that comes out: its validation, which has no case of its own
    when all are trained on, shrinks to one batch an epoch, and neither progress plots nor "best" checkpoints are made.

    An interrupted training goes on from the last checkpoint when `run_training` is called again.
    """

    budget: Budget

    def set_budget(self, budget: Budget) -> None:
        """Take the budget; must be called before `run_training`."""
        self.budget = budget
        self.num_val_iterations_per_epoch = 1
        self.logger.plot_progress_png = lambda folder: None
        self.save_every = 10**9  # checkpoints go by time, see `on_epoch_end`
        self.resumed = False
        self._trained_s = 0.0  # CPU seconds of earlier, interrupted trainings
        self._saved = self._started = cpu_seconds()

    def on_train_start(self) -> None:
        """Begin as nnU-Net does, then fix the number of iterations, or take up an interrupted training."""
        super().on_train_start()
        folder = Path(self.output_folder)
        # The final one is there if training ended and what came after it was interrupted.
        kept = next((folder / name for name in (FINAL, LATEST) if (folder / name).is_file()), None)
        if kept is not None:
            schedule = json.loads((folder / SCHEDULE).read_text(encoding="utf-8"))
            self.load_checkpoint(str(kept))
            self.resumed = True
            self._trained_s = torch.load(kept, map_location="cpu", weights_only=False)["trained_s"]
        else:
            schedule = self._measure()
            write_json(schedule, folder / SCHEDULE)
        self.schedule = schedule
        self.num_epochs, self.num_iterations_per_epoch = schedule["epochs"], schedule["iterations_per_epoch"]
        self.lr_scheduler.max_steps = self.num_epochs

    def _measure(self) -> dict[str, Any]:
        self.network.train()
        iterations, seconds = self.budget.measure(lambda: self.train_step(next(self.dataloader_train)))
        left = self.budget.iterations_left(seconds)
        epochs = max(1, min(EPOCHS, left // 5))
        return {
            "iterations_measured": iterations,
            "iteration_cpu_s": seconds,
            "epochs": epochs,
            "iterations_per_epoch": max(1, round(left / epochs)),
        }

    def count_iterations(self) -> int:
        """Return the number of iterations of the whole training."""
        return self.schedule["iterations_measured"] + self.num_epochs * self.num_iterations_per_epoch

    def trained_seconds(self) -> float:
        """Return the CPU seconds of training, those before an interruption included."""
        return self._trained_s + cpu_seconds() - self._started

    def on_epoch_end(self) -> None:
        """End the epoch as nnU-Net does, and keep a checkpoint from time to time."""
        super().on_epoch_end()
        if cpu_seconds() - self._saved > SAVE_EVERY_CPU_S:
            self.current_epoch -= 1  # nnU-Net stores the next epoch's number, counted from the one that just ended
            self.save_checkpoint(str(Path(self.output_folder) / LATEST))
            self.current_epoch += 1
            self._saved = cpu_seconds()

    def save_checkpoint(self, filename: str) -> None:
        """Write the latest or the final checkpoint, whole or not at all; "best" ones are not used."""
        target = Path(filename)
        if target.name == "checkpoint_best.pth":
            return
        partial = target.with_name(f".{target.name}.partial")
        super().save_checkpoint(str(partial))
        content = torch.load(partial, map_location="cpu", weights_only=False)
        torch.save(content | {"trained_s": self.trained_seconds()}, partial)
        partial.replace(target)


class BudgetTrainer(BudgetMixin):
    """nnU-Net's default trainer within a budget."""


class BudgetTrainerNoMirroring(BudgetMixin, nnUNetTrainerNoMirroring):
    """nnU-Net's trainer for organs that have a side, within a budget."""
