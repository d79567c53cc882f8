"""Sinkhorn-Knopp: targets that use every prototype alike, over all processes."""

import torch
import torch.distributed as dist
from torch import Tensor

TINY = 1e-30  # keeps a prototype that no sample comes near from dividing by 0


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Turn the teacher's logits into targets whose rows sum to 1 and whose columns have about equal sums.

    Samples share the prototypes evenly, which keeps the teacher from giving all of them the same answer. Where
    `torch.distributed` is initialised, the samples of all processes are balanced together; they may hold different
    numbers of them.

    Sources: Caron et al. 2020, SwAV (arXiv 2006.09882), section 3.1; in the place of centring as in Oquab et al. 2023,
    DINOv2 (arXiv 2304.07193), section 4.

    Args:
        logits: (N, K), N samples of this process and K prototypes.
        temperature: they are divided by; small ones make sharp targets.
        iterations: rounds of balancing; the rows are balanced last and so exactly.

    Returns:
        (N, K) float32.
    """
    scaled = logits.float() / temperature
    # A common shift cancels in the first division; it keeps exp from overflowing.
    peak = scaled.max() if scaled.numel() else scaled.new_tensor(-torch.inf)
    plan = (scaled - over_processes(peak, dist.ReduceOp.MAX)).exp()
    for _ in range(iterations):
        plan = plan / over_processes(plan.sum(dim=0)).clamp(min=TINY)
        plan = plan / plan.sum(dim=1, keepdim=True).clamp(min=TINY)
    return plan


def over_processes(value: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """Return a tensor reduced over all processes; as it is where there is but one."""
    if dist.is_available() and dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value, operation)
    return value
