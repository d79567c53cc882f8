"""The head that turns features into scores of prototypes."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PrototypeHead(nn.Module):
    """MLP to a bottleneck of unit length, then its cosine with each of K learnt prototypes.

    The prototypes are a weight-normalised linear layer whose gain is fixed at 1, so that logits lie between -1 and 1
    (Caron et al. 2021, DINO, arXiv 2104.14294, appendix C).

    Args:
        in_dim: length of the features.
        prototypes: K.
        hidden_dim: width of the MLP.
        bottleneck_dim: length of what is compared with the prototypes.
    """

    def __init__(self, in_dim: int, prototypes: int = 4096, hidden_dim: int = 1024, bottleneck_dim: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((in_dim, hidden_dim, hidden_dim)):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden_dim, bottleneck_dim))
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck_dim))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, K) cosines of features (N, in_dim)."""
        return F.linear(F.normalize(self.mlp(features), dim=-1), F.normalize(self.prototypes, dim=-1))
