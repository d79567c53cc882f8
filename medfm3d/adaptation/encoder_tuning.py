"""What methods have in common that train something in the encoder, and decoder and classifier with it."""

from abc import abstractmethod
from typing import Any

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter, TrainingDefaults, decoding_group


class EncoderTuning(Adapter):
    """Train a part of the encoder, or what was inserted into it, and everything behind it.

    On organs that the encoder does not know, FSEFT's best method is of this kind: LoRA with the decoder trained, which
    beats either alone (Silva-Rodriguez et al., Medical Image Analysis 2025, novel organs).

    Args:
        learning_rate: of Muon and AdamW for decoder and classifier.
        encoder_learning_rate: of AdamW for what is trained in the encoder.
        train_decoder: if False, the decoder stays as it was pretrained; the classifier always learns.
    """

    caches_features = False
    defaults = TrainingDefaults(iterations=1000)

    def __init__(
        self, learning_rate: float = 3e-3, encoder_learning_rate: float = 1e-3, train_decoder: bool = True
    ) -> None:
        self.learning_rate = learning_rate
        self.encoder_learning_rate = encoder_learning_rate
        self.train_decoder = train_decoder

    @property
    def needs_pretrained_decoder(self) -> bool:
        """Whether the decoder is never trained."""
        return not self.train_decoder

    @abstractmethod
    def encoder_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return optimiser groups (`params`, `lr`) of what is trained in the encoder."""

    def parameter_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return the encoder's groups, and one of classifier and, unless it is kept, decoder."""
        behind = decoding_group(network, self.learning_rate, train_decoder=self.train_decoder)
        return [*self.encoder_groups(network), behind]
