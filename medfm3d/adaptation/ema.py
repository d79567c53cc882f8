"""Exponential moving average of the weights, which takes the network's place when training ends."""

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

FIRST_MOMENTUM = 0.2


class EMAWeights:
    """Average the weights over the last steps and leave the average in the network at the end of training.

    With a handful of scans single weights are noisy, and there is no validation set to pick a good moment from. The
    average starts from the weights that the network has when training starts, whatever was loaded before.

    Weights that are not trained are left out, and the others averaged by one operation: ignite's `EMAHandler` goes
    through all of them one by one, which took a twentieth of a training step.

    Args:
        model: the network.
        momentum: weight of the newest step; the average spans about 1 / momentum steps.
        warmup_iters: steps over which the momentum falls from 0.2 to that.

    Raises:
        ValueError: if the momentum is not between 0 and 1.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.01, warmup_iters: int = 100) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f"the momentum of the average must lie between 0 and 1, got {momentum}")
        self.model = model
        self.momentum = momentum
        self.warmup_iters = warmup_iters
        self.trained: list[nn.Parameter] = []
        self.average: list[torch.Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer; attach before any handler that saves the network at the end."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def momentum_at(self, step: int) -> float:
        """Return the weight of the newest step, which is the first if `step` is 1."""
        passed = min(1.0, (step - 1) / max(1, self.warmup_iters - 1))
        return max(self.momentum, FIRST_MOMENTUM + (self.momentum - FIRST_MOMENTUM) * passed)

    def _start(self) -> None:
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.average = [weight.detach().clone() for weight in self.trained]

    @torch.no_grad()
    def _update(self, engine: Engine) -> None:
        average = get_ema_multi_avg_fn(1 - self.momentum_at(engine.state.iteration))
        average(self.average, self.trained, None)

    @torch.no_grad()
    def _finish(self) -> None:
        for weight, average in zip(self.trained, self.average, strict=True):
            weight.copy_(average)
