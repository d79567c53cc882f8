"""Linear probe: a new classifier on frozen features."""

from typing import Any

from torch import nn

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter, TrainingDefaults


class LinearProbe(Adapter):
    """Train the 1 x 1 x 1 classifier alone, on cached features.

    The rate follows FSEFT (Silva-Rodriguez et al., Medical Image Analysis 2025).

    Args:
        learning_rate: of AdamW.
    """

    name = "linear-probe"
    caches_features = True
    defaults = TrainingDefaults(iterations=400)

    def __init__(self, learning_rate: float = 1e-2) -> None:
        self.learning_rate = learning_rate

    def parameter_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return the classifier's weights."""
        return [{"params": list(network.classifier.parameters()), "lr": self.learning_rate}]

    def refined_parameters(self, network: AdaptableNetwork) -> list[nn.Parameter]:
        """Return the classifier's weights: nothing else was trained."""
        return list(network.classifier.parameters())
