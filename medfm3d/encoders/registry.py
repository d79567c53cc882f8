"""Named encoder sizes: a name stands for a class and its arguments, kept as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from medfm3d.encoders.encoder import Encoder
from medfm3d.encoders.input_intensity import InputIntensity, RescaledEncoder
from medfm3d.encoders.residual_encoder import ResEncEncoder
from medfm3d.encoders.segresnet import SegResNetEncoder, VISTA3DEncoder
from medfm3d.encoders.stunet import STUNetEncoder
from medfm3d.encoders.swin import SwinEncoder
from medfm3d.encoders.unet3d import UNet3DEncoder
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
_SWINUNETR = "SwinUNETR, Hatamizadeh et al. 2022, arXiv 2201.01266; MONAI's feature sizes"
_STUNET = "STU-Net S, B, L, H, Huang et al. 2023, arXiv 2304.06716, table 1"
# What the published Primus weights have and the vit_ sizes, which are ours, do not.
_PUBLISHED_PRIMUS = {
    "register_tokens": 0,
    "absolute_window": (160, 160, 160),
    "scale_attn_inner": True,
    "init_values": 0.1,
}

ENCODERS: dict[str, EncoderSpec] = {
    "vit_tiny": EncoderSpec(ViTEncoder, {"embed_dim": 192, "depth": 8, "num_heads": 4, "out_layers": (3, 7)}),
    "vit_small": EncoderSpec(ViTEncoder, {"embed_dim": 396, "depth": 12, "num_heads": 6}, _PRIMUS),
    "vit_base": EncoderSpec(ViTEncoder, {"embed_dim": 792, "depth": 12, "num_heads": 12}, _PRIMUS),
    "vit_medium": EncoderSpec(ViTEncoder, {"embed_dim": 864, "depth": 16, "num_heads": 12}, _PRIMUS),
    "vit_large": EncoderSpec(ViTEncoder, {"embed_dim": 1056, "depth": 24, "num_heads": 16}, _PRIMUS),
    # Windows of 4 cut the units of masked pretraining evenly, and cost a fifth of the attention of windows of 7.
    "swin_tiny": EncoderSpec(SwinEncoder, {"feature_size": 24, "window_size": 4}),
    "swin_small": EncoderSpec(SwinEncoder, {"feature_size": 24, "window_size": 7}, _SWINUNETR),
    "swin_base": EncoderSpec(SwinEncoder, {"feature_size": 48, "window_size": 7}, _SWINUNETR),
    **{
        f"primus_{size}": EncoderSpec(
            ViTEncoder, {"embed_dim": width, "depth": depth, "num_heads": heads, **_PUBLISHED_PRIMUS}, _PRIMUS
        )
        for size, width, depth, heads in (
            ("small", 396, 12, 6),
            ("base", 792, 12, 12),
            ("medium", 864, 16, 12),
            ("large", 1056, 24, 16),
        )
    },
    "resenc_large": EncoderSpec(ResEncEncoder, {}, "ResEnc-L, Isensee et al. 2024, arXiv 2404.09556; as in OpenMind"),
    "stunet_small": EncoderSpec(STUNetEncoder, {"features": (16, 32, 64, 128, 256, 256)}, _STUNET),
    "stunet_base": EncoderSpec(STUNetEncoder, {}, _STUNET),
    "stunet_large": EncoderSpec(STUNetEncoder, {"features": (64, 128, 256, 512, 1024, 1024), "blocks": 2}, _STUNET),
    "stunet_huge": EncoderSpec(STUNetEncoder, {"features": (96, 192, 384, 768, 1536, 1536), "blocks": 3}, _STUNET),
    "segresnet": EncoderSpec(SegResNetEncoder, {}, "MONAI's SegResNet as in SuPreM, Li et al. 2024"),
    "vista3d": EncoderSpec(VISTA3DEncoder, {}, "He et al. 2024, arXiv 2406.05285; MONAI's vista3d132"),
    "unet3d": EncoderSpec(UNet3DEncoder, {}, "Models Genesis, Zhou et al. 2021; as in SuPreM"),
}


def create_encoder(name: str, *, input_intensity: Mapping[str, float] | None = None, **overrides: Any) -> Encoder:
    """Construct an encoder by name with fresh weights.

    Args:
        name: a key of `ENCODERS`.
        input_intensity: how intensities are brought to what imported weights were trained on, as `InputIntensity`.
        overrides: arguments that replace those of the named size.

    Raises:
        ValueError: if there is no encoder of that name.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}: choose one of {', '.join(sorted(ENCODERS))}")
    spec = ENCODERS[name]
    encoder = spec.encoder_class(**{**spec.arguments, **overrides})
    return encoder if input_intensity is None else RescaledEncoder(encoder, InputIntensity(**input_intensity))


def window_multiple(name: str, arguments: Mapping[str, Any] | None = None) -> int:
    """Return the number of voxels of which the sides of a named encoder's windows must be multiples."""
    with torch.device("meta"):  # its sizes are wanted, not its weights
        encoder = create_encoder(name, **(arguments or {}))
    return max(*encoder.strides, *encoder.patch_size)
