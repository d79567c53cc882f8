"""Segmentation: decoders and the network that joins encoder, decoder, adapter and classifier."""

from medfm3d.segmentation.compute import resolve_device, resolve_precision
from medfm3d.segmentation.decoder import LightDecoder, depth_to_space, space_to_depth
from medfm3d.segmentation.pretrained import load_pretrained
from medfm3d.segmentation.segmenter import Segmenter

__all__ = [
    "LightDecoder",
    "Segmenter",
    "depth_to_space",
    "load_pretrained",
    "resolve_device",
    "resolve_precision",
    "space_to_depth",
]
