"""Named encoder sizes: a name stands for a class and its arguments, kept as data."""

from dataclasses import dataclass, field
from typing import Any

from medfm3d.encoders.encoder import Encoder
from medfm3d.encoders.vit import ViTEncoder


@dataclass(frozen=True)
class EncoderSpec:
    """What an encoder's name stands for.

    Attributes:
        encoder_class: class to construct.
        arguments: its keyword arguments.
        source: where the size comes from.
    """

    encoder_class: type[Encoder]
    arguments: dict[str, Any] = field(default_factory=dict)
    source: str = "medfm3d"


_PRIMUS = "Primus sizes, Wald et al. 2025, arXiv 2503.01835, table of configurations"

ENCODERS: dict[str, EncoderSpec] = {
    "vit_tiny": EncoderSpec(ViTEncoder, {"embed_dim": 192, "depth": 8, "num_heads": 4, "out_layers": (3, 7)}),
    "vit_small": EncoderSpec(ViTEncoder, {"embed_dim": 396, "depth": 12, "num_heads": 6}, _PRIMUS),
    "vit_base": EncoderSpec(ViTEncoder, {"embed_dim": 792, "depth": 12, "num_heads": 12}, _PRIMUS),
    "vit_medium": EncoderSpec(ViTEncoder, {"embed_dim": 864, "depth": 16, "num_heads": 12}, _PRIMUS),
    "vit_large": EncoderSpec(ViTEncoder, {"embed_dim": 1056, "depth": 24, "num_heads": 16}, _PRIMUS),
}


def create_encoder(name: str, **overrides: Any) -> Encoder:
    """Construct an encoder by name with fresh weights.

    Args:
        name: a key of `ENCODERS`.
        overrides: arguments that replace those of the named size.

    Raises:
        ValueError: if there is no encoder of that name.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}: choose one of {', '.join(sorted(ENCODERS))}")
    spec = ENCODERS[name]
    return spec.encoder_class(**{**spec.arguments, **overrides})
