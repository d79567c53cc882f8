"""Black-box spatial adapter of FSEFT on cached features."""

from typing import Any

import torch
from torch import Tensor, nn

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter, TrainingDefaults


class SpatialAdapter(nn.Module):
    """Residual adapter x + conv3(relu(conv3(x))), the second convolution zero at the start.

    It therefore starts as the identity: (B, channels, D, H, W) to the same shape.

    Source: Silva-Rodriguez, Dolz and Ben Ayed, "Towards Foundation Models and Few-Shot Parameter-Efficient Fine-Tuning
    for Volumetric Organ Segmentation", Medical Image Analysis 2025, section on the black-box spatial adapter.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.conv2 = nn.Conv3d(channels, channels, kernel_size=3, padding=1, bias=False)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted features."""
        return x + self.conv2(torch.relu(self.conv1(x)))


class BoxAdapter(Adapter):
    """Train a spatial adapter and the classifier on the frozen network's output features, computed once and cached.

    Encoder and decoder are a black box: no gradient passes them, so adaptation needs neither their weights' gradients
    nor their memory.

    Args:
        learning_rate: of AdamW. FSEFT uses 1e-4 for 200 epochs over 6 crops a volume from a classifier that a
            supervised model brings; ours starts from self-supervised features and trains for fewer steps.
    """

    name = "box-adapter"
    caches_features = True
    defaults = TrainingDefaults(iterations=600)

    def __init__(self, learning_rate: float = 3e-3) -> None:
        self.learning_rate = learning_rate

    def feature_adapter(self, channels: int) -> nn.Module:
        """Return the spatial adapter."""
        return SpatialAdapter(channels)

    def parameter_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return the weights of adapter and classifier."""
        trained = [*network.adapter.parameters(), *network.classifier.parameters()]
        return [{"params": trained, "lr": self.learning_rate}]

    def refined_parameters(self, network: AdaptableNetwork) -> list[nn.Parameter]:
        """Return the weights of adapter and classifier."""
        return [*network.adapter.parameters(), *network.classifier.parameters()]
