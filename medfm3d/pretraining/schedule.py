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


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trained weights for an optimiser: matrices and kernels decay; norms, biases and learnt tokens do not."""
    trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]

    def decays(name: str, weight: nn.Parameter) -> bool:
        return weight.ndim > 1 and not name.endswith(("_token", "_tokens", "pos_embed"))

    return [
        {"params": [weight for name, weight in trained if decays(name, weight)], "weight_decay": weight_decay},
        {"params": [weight for name, weight in trained if not decays(name, weight)], "weight_decay": 0.0},
    ]
