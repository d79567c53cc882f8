"""Which mask units of a window are hidden."""

import numpy as np
import torch
from torch import Tensor


def random_mask(batch: int, units: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Draw which units each sample hides, uniformly and without repetition (He et al. 2022, section 3).

    Args:
        batch: number of samples.
        units: number of mask units N in each.
        ratio: share of units to hide, rounded to whole units.
        generator: source of randomness, on the CPU.

    Returns:
        (batch, N) bool on the CPU, True where hidden; every sample hides equally many.

    Raises:
        ValueError: if the ratio leaves no unit hidden or none visible.
    """
    hidden = round(units * ratio)
    if not 0 < hidden < units:
        raise ValueError(
            f"mask ratio {ratio} hides {hidden} of {units} units: at least one must be hidden and one visible; choose "
            "another ratio or a larger window"
        )
    chosen = torch.rand(batch, units, generator=generator).argsort(dim=1)[:, :hidden]
    return torch.zeros(batch, units, dtype=torch.bool).scatter_(1, chosen, True)


def seeded_generator(*seed: int) -> torch.Generator:
    """Return a CPU generator for a sequence of numbers such as (seed, step, rank); other numbers, another stream."""
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
