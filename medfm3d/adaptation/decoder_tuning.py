"""Decoder fine-tuning: the encoder stays frozen, everything behind it learns."""

from typing import Any

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter, TrainingDefaults, decoding_group


class DecoderTuning(Adapter):
    """Train decoder and classifier on a frozen encoder, with augmented windows.

    Muon in place of AdamW, 1000 steps, raised mean Dice of development cases (standard error) in single draws by 0.005
    (0.001) and 0.006 (0.002) on hippocampus, K = 5, and by 0.017 (0.005) on head and neck, K = 5.

    Args:
        learning_rate: of Muon and AdamW.
    """

    name = "decoder"
    caches_features = False
    # Development cases, mean Dice by 2000 steps above that by 1000: hippocampus, K = 10, +0.001 (mean of four runs);
    # four organs of head and neck, K = 1, +0.012 (standard error 0.003), K = 5 -0.004 (0.003).
    defaults = TrainingDefaults(iterations=1000, iterations_of_many=2000)

    def __init__(self, learning_rate: float = 3e-3) -> None:
        self.learning_rate = learning_rate

    def parameter_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return the weights of decoder and classifier."""
        return [decoding_group(network, self.learning_rate)]
