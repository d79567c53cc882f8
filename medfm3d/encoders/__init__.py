"""Encoders: a volume in, a feature pyramid out."""

from medfm3d.encoders.check import check_encoder
from medfm3d.encoders.encoder import Encoder
from medfm3d.encoders.input_intensity import InputIntensity, RescaledEncoder
from medfm3d.encoders.registry import ENCODERS, EncoderSpec, create_encoder, window_multiple
from medfm3d.encoders.swin import SwinEncoder
from medfm3d.encoders.vit import ViTEncoder, patchify, unpatchify
from medfm3d.encoders.weights import (
    WeightsError,
    file_sha256,
    load_encoder,
    load_weights,
    read_header,
    save_encoder,
    save_weights,
    start_from,
)

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderSpec",
    "InputIntensity",
    "RescaledEncoder",
    "SwinEncoder",
    "ViTEncoder",
    "WeightsError",
    "check_encoder",
    "create_encoder",
    "file_sha256",
    "load_encoder",
    "load_weights",
    "patchify",
    "read_header",
    "save_encoder",
    "save_weights",
    "start_from",
    "unpatchify",
    "window_multiple",
]
