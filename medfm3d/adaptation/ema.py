"""Exponential moving average of the weights, which takes the network's place when training ends."""

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import nn


class EMAWeights(EMAHandler):
    """Average the weights over the last steps and leave the average in the network at the end of training.

    With a handful of scans single weights are noisy, and there is no validation set to pick a good moment from. The
    average starts from the weights that the network has when training starts, whatever was loaded before.

    Args:
        model: the network.
        momentum: weight of the newest step; the average spans about 1 / momentum steps.
        warmup_iters: steps over which the momentum falls from 0.2.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.01, warmup_iters: int = 100) -> None:
        super().__init__(model, momentum=momentum, momentum_warmup=0.2, warmup_iters=warmup_iters)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer; attach before any handler that saves the network at the end."""
        engine.add_event_handler(Events.STARTED, self._start)
        super().attach(engine)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self) -> None:
        self.ema_model.load_state_dict(self.model.state_dict())

    def _finish(self) -> None:
        with torch.no_grad():
            for weight, average in zip(self.model.parameters(), self.ema_model.parameters(), strict=True):
                if weight.requires_grad:  # the average of a frozen weight differs from it by rounding
                    weight.copy_(average)
