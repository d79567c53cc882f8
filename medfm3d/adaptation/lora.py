"""Low-rank adaptation of the encoder's linear layers, by the peft library: LoRA and DoRA."""

import re
from collections.abc import Sequence
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from medfm3d.adaptation.adapter import AdaptableNetwork
from medfm3d.adaptation.encoder_tuning import EncoderTuning
from medfm3d.adaptation.insertion import blocks_of, inserted_parameters
from medfm3d.encoders import Encoder

PARTS = ("attn", "mlp")


class LoRA(EncoderTuning):
    """Add a trained product of two thin matrices to the weight of each linear layer in the encoder's blocks.

    The second matrix is zero at the start, so that the encoder starts as it was. After training the product can be
    added to the weight for good: `merge` gives a plain encoder, as fast as before.

    Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models"; together with the decoder as in FSEFT
    (Silva-Rodriguez et al., Medical Image Analysis 2025), which gives LoRA the rate of 1e-3.

    Args:
        rank: inner size of the product.
        alpha: the product is scaled by alpha / rank.
        parts: of each block: "attn" (query, key, value and output projections), "mlp", or both, in a sequence or with a
            plus between them.
        options: as of `EncoderTuning`.

    Raises:
        ValueError: if rank or alpha is not positive, or a part is unknown.
    """

    name = "lora"
    weight_decomposed = False

    def __init__(self, rank: int = 8, alpha: float = 16, parts: Sequence[str] | str = PARTS, **options: Any) -> None:
        super().__init__(**options)
        parts = parts.split("+") if isinstance(parts, str) else parts
        if rank < 1 or not alpha > 0:
            raise ValueError(f"method {self.name}: rank and alpha must be positive, got {rank} and {alpha}")
        if not parts or not set(parts) <= set(PARTS):
            raise ValueError(f"method {self.name}: parts must be of {', '.join(PARTS)}, got {list(parts)}")
        self.rank = rank
        self.alpha = alpha
        self.parts = tuple(parts)

    def insert(self, encoder: Encoder) -> None:
        """Wrap the blocks' linear layers; see `Adapter.insert`."""
        inside = {id(m) for block in blocks_of(encoder, self) for part in self.parts for m in _part(block, part)}
        names = [name for name, module in encoder.named_modules() if id(module) in inside]
        if not names:
            raise ValueError(f"method {self.name}: the blocks of {type(encoder).__name__} have no linear layer")
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules="|".join(re.escape(name) for name in names),
            use_dora=self.weight_decomposed,
        )
        inject_adapter_in_model(config, encoder)

    def encoder_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return the inserted matrices."""
        return [{"params": inserted_parameters(network), "lr": self.encoder_learning_rate}]

    def merge(self, encoder: Encoder) -> None:
        """Add the products to the weights and take the wrappers away; see `Adapter.merge`."""
        for name, layer in _wrapped(encoder):
            layer.merge()
            encoder.set_submodule(name, layer.get_base_layer())


class DoRA(LoRA):
    """LoRA on the direction of each weight's rows, with their lengths trained apart.

    Source: Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation".

    Args:
        rank: as of `LoRA`.
        alpha: as of `LoRA`.
        parts: as of `LoRA`.
        options: as of `EncoderTuning`.
    """

    name = "dora"
    weight_decomposed = True

    def encoder_loaded(self, encoder: Encoder) -> None:
        """Take the lengths anew from the weights that were loaded; see `Adapter.encoder_loaded`."""
        for _, layer in _wrapped(encoder):
            for magnitude in layer.lora_magnitude_vector.values():
                magnitude.weight.data.copy_(layer.get_base_layer().weight.norm(dim=1))


def _part(block: nn.Module, part: str) -> list[nn.Module]:
    return [module for module in getattr(block, part).modules() if isinstance(module, nn.Linear)]


def _wrapped(encoder: Encoder) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in encoder.named_modules() if isinstance(module, LoraLayer)]
