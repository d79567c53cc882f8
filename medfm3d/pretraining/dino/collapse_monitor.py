"""Watch over the teacher's features: whether they still tell volumes apart."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_warn
from monai.metrics import EmbeddingCollapseMetric
from torch import Tensor

CELLS_PER_BATCH = 32
ADVICE = (
    "the features of all volumes are becoming one and the same. Lower learning_rate, raise teacher_momentum towards 1, "
    "enlarge batch_size, or give koleo_weight a larger value; then start afresh (resume=never)"
)


class FeatureCollapseError(RuntimeError):
    """The teacher's features have collapsed: the message says by what measure, and what to change."""


class CollapseMonitor(pl.Callback):
    """Logs, of the teacher's latest features, rank, spread and entropy, and warns or stops when they collapse.

    For whole views and for cells: the effective rank (exponential of the entropy of singular values, from MONAI's
    `EmbeddingCollapseMetric`), and the spread, which is 0 where all features point one way and 1 where they point
    everywhere. The rank alone does not see that features differ by noise only, nor the spread that they differ along
    one line. For whole views also the entropies of the teacher's answers as shares of their maximum, log K: near 0 for
    the mean of all answers, one prototype gets everything; near 1 for single answers, the teacher says nothing. Each
    process looks at its own features, the first one logs. The features are part of the checkpoint.

    Args:
        every_n_steps: steps between looks.
        remembered: how many features of views, and of cells, are kept.
        grace_steps: steps before the first verdict: features of fresh weights are alike.
        least_rank: verdict "collapsed" below this effective rank.
        least_spread: verdict "collapsed" below this spread.
        on_collapse: "warn", "stop" (FeatureCollapseError), or "ignore".

    Raises:
        ValueError: if `on_collapse` is something else.
    """

    def __init__(
        self,
        every_n_steps: int = 50,
        remembered: int = 256,
        grace_steps: int = 500,
        least_rank: float = 2.0,
        least_spread: float = 0.02,
        on_collapse: str = "warn",
    ) -> None:
        if on_collapse not in ("warn", "stop", "ignore"):
            raise ValueError(f"on_collapse must be warn, stop or ignore, got {on_collapse!r}")
        self.every_n_steps = every_n_steps
        self.remembered = remembered
        self.grace_steps = grace_steps
        self.least_rank = least_rank
        self.least_spread = least_spread
        self.on_collapse = on_collapse
        self.kept: dict[str, Tensor] = {}
        self._warned = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: dict[str, Any], batch: Any, batch_idx: int
    ) -> None:
        """Remember the features of this batch; look at all of them when the time has come."""
        cells = outputs["cell_features"].flatten(0, 1)
        self._keep("view", outputs["view_features"])
        self._keep("cell", cells[:: max(1, len(cells) // CELLS_PER_BATCH)][:CELLS_PER_BATCH])
        step = trainer.global_step
        if step % self.every_n_steps or not trainer.is_global_zero:
            return
        measured = {
            f"{kind}_{name}": value for kind, kept in self.kept.items() for name, value in measure(kept).items()
        }
        temperature = pl_module.teacher_temperature(step)
        measured |= answer_entropies(outputs["view_logits"], temperature)
        for logger in trainer.loggers:
            logger.log_metrics({f"teacher_{name}": value for name, value in measured.items()}, step=step)
        if step >= self.grace_steps and len(self.kept["view"]) >= min(32, self.remembered):
            self._judge(measured, step)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the remembered features."""
        return {kind: kept.cpu() for kind, kept in self.kept.items()}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Take up remembered features."""
        self.kept = dict(state_dict)

    def _keep(self, kind: str, features: Tensor) -> None:
        new = features.detach().float()  # stays on its device: copying it at every step would make a GPU wait
        before = self.kept.get(kind, new[:0]).to(new.device)
        self.kept[kind] = torch.cat((before, new))[-self.remembered :]

    def _judge(self, measured: dict[str, float], step: int) -> None:
        limits = {"rank": self.least_rank, "spread": self.least_spread}
        low = [
            f"{name} {value:.3g} (below {limits[name.split('_')[-1]]:g})"
            for name, value in measured.items()
            if value < limits.get(name.split("_")[-1], -math.inf)
        ]
        if not low or self.on_collapse == "ignore":
            return
        message = f"features have collapsed at step {step}: {', '.join(low)}; {ADVICE}"
        if self.on_collapse == "stop":
            raise FeatureCollapseError(message)
        if not self._warned:
            rank_zero_warn(message)
            self._warned = True


def measure(features: Tensor) -> dict[str, float]:
    """Return `rank` and `spread` of features (N, D), N at least 2."""
    score = EmbeddingCollapseMetric(reduction="none", include_indicators=["effective_rank"])(features)
    highest = min(features.shape[0] - 1, features.shape[1])
    unit = F.normalize(features, dim=1)
    return {
        "rank": (1 - score["effective_rank_score"].item()) * highest,
        # 1 minus the squared length of the mean direction: the mean squared distance from it.
        "spread": math.sqrt(max(0.0, 1 - unit.mean(dim=0).square().sum().item())),
    }


def answer_entropies(logits: Tensor, temperature: float) -> dict[str, float]:
    """Return the entropies, as shares of log K, of single answers (N, K) and of their mean."""
    answers = (logits.float() / temperature).softmax(dim=1)

    def share(p: Tensor) -> float:
        return float(torch.special.entr(p).sum(dim=-1).mean()) / math.log(p.shape[-1])

    return {"answer_entropy": share(answers), "mean_answer_entropy": share(answers.mean(dim=0))}
