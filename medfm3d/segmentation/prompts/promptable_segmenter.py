"""Image and prompts to a mask, in two parts: one for each image, one for each click."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medfm3d.encoders import create_encoder, load_weights
from medfm3d.segmentation.compute import autocast_to, resolve_precision
from medfm3d.segmentation.decoder import LightDecoder
from medfm3d.segmentation.prompts.mask_decoder import MaskDecoder
from medfm3d.segmentation.prompts.organ_names import OrganNames
from medfm3d.volumes import plain_tensor


class ImageFeatures(NamedTuple):
    """What the network knows of a window before any prompt: computed once, used for every click.

    Attributes:
        image: (B, C, D, H, W).
        maps: (B, widths[i], D / s, H / s, W / s) at strides s of 2, 4 and 8.
    """

    image: Tensor
    maps: tuple[Tensor, Tensor, Tensor]


class PromptableSegmenter(nn.Module):
    """A frozen encoder, a decoder of image features and a decoder of masks.

    `encode` runs once for a window and `decode` at every click; `forward` does both, for tools that know bundles.

    Args:
        organs: names that the network knows, see `OrganNames`.
        encoder: name of an encoder, a key of `medfm3d.encoders.ENCODERS`.
        encoder_arguments: arguments that differ from those of the named encoder.
        widths: channels of the image's features at strides 2, 4 and 8.
        prompt_widths: channels of the mask decoder at strides 2, 4, 8 and 16.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 where the processor computes it natively.

    Raises:
        ValueError: if an unknown encoder or precision is named.
    """

    def __init__(
        self,
        organs: Sequence[str] = (),
        encoder: str = "vit_tiny",
        encoder_arguments: Mapping[str, Any] | None = None,
        widths: Sequence[int] = (48, 64, 96),
        prompt_widths: Sequence[int] = (24, 48, 96, 128),
        precision: str = "auto",
    ) -> None:
        super().__init__()
        self.organ_names = OrganNames(organs)
        self.precision = precision
        resolve_precision(precision, torch.device("cpu"))  # an unknown name is refused here, not at the first window
        self.encoder = create_encoder(encoder, **(encoder_arguments or {})).requires_grad_(False)
        self.window_multiple = max(8, *self.encoder.strides, *self.encoder.patch_size)
        channels = self.encoder.in_channels
        self.image_decoder = LightDecoder(self.encoder.channels, self.encoder.strides, channels, widths)
        for unused in (self.image_decoder.expand, self.image_decoder.refine):  # full-resolution features of the image
            unused.requires_grad_(False)
        self.mask_decoder = MaskDecoder(widths, channels, len(self.organ_names), prompt_widths)

    def forward(self, x: Tensor, organ: Tensor | None = None) -> Tensor:
        """Return logits, (B, 1, D, H, W) float32, of image and prompts in one tensor.

        Args:
            x: (B, C + 4, D, H, W): the image, then the channels of `prompt_maps.CHANNELS`.
            organ: number of each window's organ, (B,); None if not known.
        """
        x = plain_tensor(x)
        channels = self.encoder.in_channels
        return self.decode(self.encode(x[:, :channels]), x[:, channels:], organ)

    def encode(self, image: Tensor) -> ImageFeatures:
        """Return the features of windows (B, C, D, H, W), sides multiples of `window_multiple`."""
        image = plain_tensor(image)
        with autocast_to(self.precision, image.device):
            with torch.no_grad():
                pyramid = self.encoder(image)
            f2, f4, f8 = self.image_decoder.merged_maps(image, pyramid)
        return ImageFeatures(image, (f2.float(), f4.float(), f8.float()))

    def decode(self, features: ImageFeatures, maps: Tensor, organ: Tensor | None = None) -> Tensor:
        """Return logits, (B, 1, D, H, W) float32, of prompts (B, 4, D, H, W) on features of one window or of each."""
        maps = plain_tensor(maps)
        with autocast_to(self.precision, maps.device):
            return self.mask_decoder(features.image, features.maps, maps, organ)


def start_promptable(
    network: PromptableSegmenter, encoder_weights: str | Path, decoder_weights: str | Path | None = None
) -> PromptableSegmenter:
    """Load pretrained weights of encoder and image decoder into a fresh network, and return it.

    Args:
        network: changed in place.
        encoder_weights: file written by `medfm3d.encoders.save_encoder`; the encoder stays as it is there.
        decoder_weights: file of a `LightDecoder` to start from; None keeps fresh weights.

    Raises:
        WeightsError: if a file is unusable or does not fit.
    """
    load_weights(network.encoder, encoder_weights)
    if decoder_weights is not None:
        load_weights(network.image_decoder, decoder_weights)
    return network
