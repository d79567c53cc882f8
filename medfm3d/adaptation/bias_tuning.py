"""Bias and affine tuning: the encoder's biases and norms learn, its matrices stay."""

from typing import Any

from torch import nn

from medfm3d.adaptation.adapter import AdaptableNetwork
from medfm3d.adaptation.encoder_tuning import EncoderTuning
from medfm3d.encoders import Encoder

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm, nn.modules.batchnorm._BatchNorm)


class BiasTuning(EncoderTuning):
    """Train every bias of the encoder and the scales of its norms: less than 1 % of its weights.

    Source: Ben Zaken et al. 2022, "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
    Language-models" (biases); the norms' scales are added, as in affine tuning.

    Args:
        options: as of `EncoderTuning`.
    """

    name = "bias"
    keeps_encoder = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def insert(self, encoder: Encoder) -> None:
        """Insert nothing; refuse an encoder that has neither biases nor norms."""
        if not _biases_and_scales(encoder):
            raise ValueError(
                f"method {self.name}: {type(encoder).__name__} has no bias and no norm; choose another method"
            )

    def encoder_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return biases and norms."""
        return [{"params": _biases_and_scales(network.encoder), "lr": self.encoder_learning_rate}]


def _biases_and_scales(encoder: Encoder) -> list[nn.Parameter]:
    return [
        parameter
        for module in encoder.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, _NORMS) or name.endswith("bias")
    ]
