"""Encoders: a volume in, a feature pyramid out."""

from medfm3d.encoders.check import check_encoder
from medfm3d.encoders.encoder import Encoder
from medfm3d.encoders.registry import ENCODERS, EncoderSpec, create_encoder
from medfm3d.encoders.vit import ViTEncoder, patchify, unpatchify
from medfm3d.encoders.weights import WeightsError, load_encoder, load_weights, read_header, save_encoder, save_weights

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderSpec",
    "ViTEncoder",
    "WeightsError",
    "check_encoder",
    "create_encoder",
    "load_encoder",
    "load_weights",
    "patchify",
    "read_header",
    "save_encoder",
    "save_weights",
    "unpatchify",
]
