"""Encoder, decoder, adapter and classifier in one network."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medfm3d.adaptation import create_adapter, insert_into
from medfm3d.encoders import create_encoder
from medfm3d.segmentation.compute import autocast_to, resolve_precision
from medfm3d.segmentation.decoder import LightDecoder
from medfm3d.volumes import plain_tensor

# An untrained classifier calls each organ as rare as it is, about 2 % of the voxels, and not as frequent as background:
# as Lin et al. 2017 (focal loss, section 4.1) for rare classes. The Dice loss of small organs has a steeper gradient
# then. On head-and-neck CT, K = 5, 15 development cases, one draw, 800 steps: mean Dice 0.646 against 0.627 without.
ORGAN_LOG_ODDS = -4.0


class Segmenter(nn.Module):
    """Window to logits: a plain module that runs under any MONAI inferer, in any tool that knows bundles.

    It is built from names and numbers alone, so that a bundle's `network_def` is complete and its state dict loads
    without any other file. The steps are kept apart because adapters train only some of them and cache the rest:
    `features` (encoder and decoder) and `classify` (adapter and classifier).

    Args:
        organs: names of the organs, in the order of the output channels after background.
        encoder: name of an encoder, a key of `medfm3d.encoders.ENCODERS`.
        encoder_arguments: arguments that differ from those of the named encoder.
        adapter: name of an adapter, a key of `medfm3d.adaptation.ADAPTERS`.
        adapter_arguments: its arguments.
        widths: channels of the decoder at strides 2, 4 and 8.
        feature_channels: channels of the full-resolution features.
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 where the processor computes it natively.

    Raises:
        ValueError: if there are no organs, an unknown encoder, adapter or precision is named, or the adapter does not
            apply to the encoder.
    """

    def __init__(
        self,
        organs: Sequence[str],
        encoder: str = "vit_tiny",
        encoder_arguments: Mapping[str, Any] | None = None,
        adapter: str = "decoder",
        adapter_arguments: Mapping[str, Any] | None = None,
        widths: Sequence[int] = (48, 64, 96),
        feature_channels: int = 16,
        precision: str = "auto",
    ) -> None:
        super().__init__()
        if not organs:
            raise ValueError("a segmenter needs at least one organ")
        self.organs = tuple(organs)
        self.precision = precision
        resolve_precision(precision, torch.device("cpu"))  # an unknown name is refused here, not at the first window
        self.encoder = create_encoder(encoder, **(encoder_arguments or {}))
        self.decoder = LightDecoder(
            self.encoder.channels, self.encoder.strides, self.encoder.in_channels, widths, feature_channels
        )
        self.method = create_adapter(adapter, **(adapter_arguments or {}))
        self.encoder_names = insert_into(self.encoder, self.method)
        self.adapter = self.method.feature_adapter(feature_channels)
        self.classifier = nn.Conv3d(feature_channels, 1 + len(self.organs), kernel_size=1)
        nn.init.constant_(self.classifier.bias[1:], ORGAN_LOG_ODDS)
        nn.init.zeros_(self.classifier.bias[:1])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, 1 + organs, D, H, W) float32, of a window (B, C, D, H, W)."""
        x = plain_tensor(x)
        with autocast_to(self.precision, x.device):
            return self._logits(self.decoder(x, self.encoder(x)))

    def features(self, x: Tensor) -> Tensor:
        """Return the decoder's features, (B, feature_channels, D, H, W), of a window (B, C, D, H, W)."""
        x = plain_tensor(x)
        with autocast_to(self.precision, x.device):
            return self.decoder(x, self.encoder(x)).float()

    def classify(self, features: Tensor) -> Tensor:
        """Return logits, (B, 1 + organs, D, H, W) float32, of features (B, feature_channels, D, H, W)."""
        features = plain_tensor(features)
        with autocast_to(self.precision, features.device):
            return self._logits(features)

    def unrefined(self, x: Tensor) -> Tensor:
        """Return what enters the decoder's last step, (B, F, D, H, W), of a window: the input of `refine`."""
        x = plain_tensor(x)
        with autocast_to(self.precision, x.device):
            return self.decoder.unrefined(x, self.encoder(x))

    def refine(self, unrefined: Tensor) -> Tensor:
        """Return logits, (B, 1 + organs, D, H, W) float32, of what `unrefined` gave."""
        with autocast_to(self.precision, unrefined.device):
            return self._logits(self.decoder.refine(unrefined))

    def merged(self) -> "Segmenter":
        """Return a copy on a plain encoder that gives the same logits, with nothing left of what was inserted.

        Its state dict is that of a segmenter of method "decoder".

        Raises:
            ValueError: if the method has no merge (see `Adapter.merge`).
        """
        plain = copy.deepcopy(self)
        plain.method.merge(plain.encoder)
        plain.method = create_adapter("decoder")
        plain.encoder_names = insert_into(plain.encoder, plain.method)
        return plain

    def _logits(self, features: Tensor) -> Tensor:
        logits = self.classifier(self.adapter(features))
        return logits.to(torch.float32, memory_format=torch.contiguous_format)  # type and layout in one copy
