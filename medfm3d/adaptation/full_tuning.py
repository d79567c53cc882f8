"""Full fine-tuning: every weight learns, the encoder slowly."""

from typing import Any

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter, TrainingDefaults


class FullTuning(Adapter):
    """Train the whole network, with a smaller rate for the pretrained encoder.

    Args:
        learning_rate: of AdamW for decoder and classifier.
        encoder_learning_rate: of AdamW for the encoder.
    """

    name = "full"
    caches_features = False
    defaults = TrainingDefaults(iterations=800)

    def __init__(self, learning_rate: float = 3e-3, encoder_learning_rate: float = 3e-4) -> None:
        self.learning_rate = learning_rate
        self.encoder_learning_rate = encoder_learning_rate

    def parameter_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return the encoder's weights in one group, those of decoder and classifier in another."""
        new = [*network.decoder.parameters(), *network.classifier.parameters()]
        return [
            {"params": list(network.encoder.parameters()), "lr": self.encoder_learning_rate},
            {"params": new, "lr": self.learning_rate},
        ]
