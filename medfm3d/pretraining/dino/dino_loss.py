"""DINO: what the student says of one view agrees with what the teacher says of another."""

import torch.nn.functional as F
from torch import Tensor


def dino_loss(student: Tensor, targets: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-entropy between the teacher's targets and the student's answers, over all pairs of different views.

    Caron et al. 2021 (arXiv 2104.14294), equation 3: the teacher sees the global views alone, the student all of them.

    Args:
        student: logits (V, B, K) of V views, those that the teacher saw first.
        targets: distributions (G, B, K) of the first G views; without gradient.
        temperature: of the student.

    Returns:
        The mean over pairs and samples, a scalar.

    Raises:
        ValueError: if there is no pair of different views.
    """
    seen, views = len(targets), len(student)
    pairs = seen * views - seen
    if pairs < 1:
        raise ValueError(f"{seen} global views of {views} give no pair of different views: add a view")
    said = F.log_softmax(student.float() / temperature, dim=-1)
    # Sums over views first: a pair's cross-entropy is linear in both, and no (G, V, B, K) is made.
    everything = (targets.sum(dim=0) * said.sum(dim=0)).sum()
    same_view = (targets * said[:seen]).sum()
    return (same_view - everything) / (pairs * student.shape[1])
