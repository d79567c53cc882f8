"""Full fine-tuning: every weight learns, the encoder slowly, its first layers most slowly."""

from typing import Any

from medfm3d.adaptation.adapter import AdaptableNetwork
from medfm3d.adaptation.encoder_tuning import EncoderTuning
from medfm3d.adaptation.layer_rates import layer_groups


class FullTuning(EncoderTuning):
    """Train the whole network, the pretrained encoder at smaller rates that decay towards its input.

    Source: Bao et al. 2022, "BEiT: BERT Pre-Training of Image Transformers" (layer-wise decay).

    Args:
        learning_rate: of Muon and AdamW for decoder and classifier.
        encoder_learning_rate: of AdamW for the encoder's last layer.
        decay_per_layer: learning rate of a layer by that of the next one; 1 gives the encoder one rate.
        train_decoder: as of `EncoderTuning`.
    """

    name = "full"
    keeps_encoder = False

    def __init__(
        self,
        learning_rate: float = 3e-3,
        encoder_learning_rate: float = 3e-4,
        decay_per_layer: float = 0.75,
        train_decoder: bool = True,
    ) -> None:
        super().__init__(learning_rate, encoder_learning_rate, train_decoder)
        self.decay_per_layer = decay_per_layer

    def encoder_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return the encoder's weights, a group per layer."""
        return layer_groups(network.encoder, self.encoder_learning_rate, self.decay_per_layer)
