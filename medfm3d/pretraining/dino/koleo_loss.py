"""KoLeo: features of a batch keep apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-8


def koleo_loss(features: Tensor) -> Tensor:
    """Minus the mean logarithm of each sample's distance to its nearest neighbour on the unit sphere.

    The Kozachenko-Leonenko estimator of entropy as a regulariser (Sablayrolles et al. 2019, arXiv 1806.03198, section
    3.2; Oquab et al. 2023, section 4). It sees the samples of its own process alone, as DINOv2's does.

    Args:
        features: (N, D).

    Raises:
        ValueError: if there are fewer than two samples.
    """
    if len(features) < 2:
        raise ValueError("KoLeo needs two samples at least: set batch_size to 2 or more, or koleo_weight to 0")
    unit = F.normalize(features.float(), dim=-1)
    with torch.no_grad():
        nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(dim=1)
    return -(torch.linalg.vector_norm(unit - unit[nearest], dim=1) + TINY).log().mean()
