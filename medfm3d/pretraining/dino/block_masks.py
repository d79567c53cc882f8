"""Which mask units of the global views are hidden from the student: blocks, not single units."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

ASPECT = 0.5  # a block's sides lie between this and its inverse times those of a cube


def block_masks(
    samples: int,
    grid: Sequence[int],
    generator: torch.Generator,
    *,
    share: float = 0.5,
    ratio: Sequence[float] = (0.1, 0.5),
) -> Tensor:
    """Hide blocks of units in a share of the samples.

    Neighbouring patches of a volume are so alike that single hidden ones are copied from beside them. In two dimensions
    so do BEiT and DINOv2 (Bao et al. 2022, algorithm 1); ratios are spread evenly over the samples as in DINOv2.

    Args:
        samples: number of samples.
        grid: units along each axis.
        generator: source of randomness, on the CPU.
        share: of the samples in which anything is hidden; at least one is, unless 0.
        ratio: least and largest share of a sample's units to hide; exactly the drawn number is, at least one.

    Returns:
        (samples, N) bool on the CPU, units in row-major order.

    Raises:
        ValueError: if the shares do not lie between 0 and 1.
    """
    low, high = ratio
    if not 0 <= share <= 1 or not 0 < low <= high < 1:
        raise ValueError(f"shares must lie between 0 and 1, got mask_share {share} and mask_ratio {tuple(ratio)}")
    masks = torch.zeros(samples, *grid, dtype=torch.bool)
    chosen = torch.randperm(samples, generator=generator)[: math.ceil(samples * share)]
    edges = torch.linspace(low, high, len(chosen) + 1)
    for index, sample in enumerate(chosen.tolist()):
        drawn = float(torch.empty(()).uniform_(float(edges[index]), float(edges[index + 1]), generator=generator))
        _hide(masks[sample], max(1, round(drawn * masks[sample].numel())), generator)
    return masks.flatten(1)


def _hide(mask: Tensor, wanted: int, generator: torch.Generator) -> None:
    """Lay blocks upon a mask (D, H, W) until they cover the wanted number of units, and take back what is too much."""
    while (missing := wanted - int(mask.sum())) > 0:
        before = mask.clone()
        mask[_random_block(mask.shape, missing, generator)] = True
        surplus = int(mask.sum()) - wanted
        if surplus > 0:
            new = (mask & ~before).nonzero()
            back = new[torch.randperm(len(new), generator=generator)[:surplus]]
            mask[back.unbind(1)] = False


def _random_block(grid: Sequence[int], volume: int, generator: torch.Generator) -> tuple[slice, ...]:
    stretch = torch.rand(3, generator=generator) * 2 - 1
    sides = volume ** (1 / 3) * (1 / ASPECT) ** stretch
    block = []
    for side, extent in zip(sides.tolist(), grid, strict=True):
        length = min(max(1, round(side)), extent)
        start = int(torch.randint(extent - length + 1, (1,), generator=generator))
        block.append(slice(start, start + length))
    return tuple(block)
