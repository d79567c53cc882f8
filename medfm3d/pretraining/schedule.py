"""Learning rate over the steps of a pretraining run, and which weights decay."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn


def warmup_cosine(warmup_steps: int, total_steps: int, final_factor: float = 0.0) -> Callable[[int], float]:
    """Return the factor on the learning rate at a step: a linear rise, then half a cosine down to `final_factor`.

    Raises:
        ValueError: if the warm-up does not end before the run does.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warm-up of {warmup_steps} steps must be shorter than the run of {total_steps} steps")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def cosine_ramp(first: float, last: float, total_steps: int) -> Callable[[int], float]:
    """Return a value that goes from `first` at step 0 to `last` at `total_steps`, and stays there: half a cosine."""

    def value(step: int) -> float:
        progress = min(1.0, step / max(1, total_steps))
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress))

    return value


def linear_ramp(first: float, last: float, steps: int) -> Callable[[int], float]:
    """Return a value that goes from `first` at step 0 to `last` at step `steps` in a line, and stays there."""

    def value(step: int) -> float:
        return last if step >= steps else first + (last - first) * step / steps

    return value


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trained weights for an optimiser: matrices and kernels decay; norms, biases and learnt tokens do not."""
    trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]

    def decays(name: str, weight: nn.Parameter) -> bool:
        return weight.ndim > 1 and not name.endswith(("_token", "_tokens", "pos_embed"))

    return [
        {"params": [weight for name, weight in trained if decays(name, weight)], "weight_decay": weight_decay},
        {"params": [weight for name, weight in trained if not decays(name, weight)], "weight_decay": 0.0},
    ]
