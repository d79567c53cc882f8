"""AdaptFormer: a small bottleneck beside the MLP of each block."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from medfm3d.adaptation.adapter import AdaptableNetwork
from medfm3d.adaptation.encoder_tuning import EncoderTuning
from medfm3d.adaptation.insertion import blocks_of, inserted_parameters
from medfm3d.encoders import Encoder


class ParallelBottleneck(nn.Module):
    """mlp(x) + scale * up(relu(down(x))) in place of a block's mlp(x), `up` zero at the start.

    A block gives its MLP normalised tokens, and so the bottleneck sees them too (equation 3 of Chen et al. 2022).

    Args:
        mlp: the block's own MLP, tokens (..., dim) to tokens (..., dim).
        dim: length of the tokens.
        bottleneck: length inside.
        scale: of the bottleneck's output.
    """

    def __init__(self, mlp: nn.Module, dim: int, bottleneck: int, scale: float) -> None:
        super().__init__()
        self.mlp = mlp
        self.down = nn.Linear(dim, bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        self.scale = scale
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both paths."""
        return self.mlp(x) + self.scale * self.up(torch.relu(self.down(x)))


class AdaptFormer(EncoderTuning):
    """Train a bottleneck beside the MLP of each block of the frozen encoder.

    Source: Chen et al. 2022, "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition"; the defaults
    are its scale and its 64 channels.

    Args:
        bottleneck: channels inside.
        scale: of what the bottleneck adds.
        options: as of `EncoderTuning`.

    Raises:
        ValueError: if there is no channel.
    """

    name = "adaptformer"

    def __init__(self, bottleneck: int = 64, scale: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        if bottleneck < 1:
            raise ValueError(f"method {self.name}: the bottleneck needs channels, got {bottleneck}")
        self.bottleneck = bottleneck
        self.scale = scale

    def insert(self, encoder: Encoder) -> None:
        """Put a bottleneck beside each MLP; see `Adapter.insert`."""
        for block in blocks_of(encoder, self):
            first = next((m for m in block.mlp.modules() if isinstance(m, nn.Linear)), None)
            if first is None:
                raise ValueError(f"method {self.name}: the MLPs of {type(encoder).__name__} have no linear layer")
            block.mlp = ParallelBottleneck(block.mlp, first.in_features, self.bottleneck, self.scale)

    def encoder_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return the bottlenecks' weights."""
        return [{"params": inserted_parameters(network), "lr": self.encoder_learning_rate}]
