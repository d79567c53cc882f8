"""Floating-point operations of a training step, counted while it runs."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_CPU_ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class TrainingFlops:
    """Counts the operations of matrix products, convolutions and attention, forward and backward, in a `with` block.

    A multiplication and an addition count as two. The scores that attention computes anew in its backward pass count
    too. Compiled code, into which one cannot look, runs uncompiled meanwhile.
    """

    def __init__(self) -> None:
        # torch knows formulas for attention on a GPU alone; that on the CPU takes its arguments in the same order.
        self._counter = FlopCounterMode(
            display=False, custom_mapping={_CPU_ATTENTION: _forward, _CPU_ATTENTION_BACKWARD: _backward}
        )
        self._stance: Any = None

    @property
    def total(self) -> int:
        """Operations so far."""
        return self._counter.get_total_flops()

    def __enter__(self) -> "TrainingFlops":
        self._stance = torch.compiler.set_stance("force_eager")  # from here on, not from entering it
        self._counter.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._counter.__exit__(*exception)
        self._stance.__exit__(*exception)


def count_flops(work: Callable[[], Any]) -> int:
    """Return the operations that calling `work` takes."""
    with TrainingFlops() as flops:
        work()
    return flops.total


def _forward(query: Any, key: Any, value: Any, *arguments: Any, **further: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(gradient: Any, query: Any, key: Any, value: Any, *arguments: Any, **further: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)
