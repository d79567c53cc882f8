"""Fine-tuning of the encoder's last blocks."""

from typing import Any

from medfm3d.adaptation.adapter import AdaptableNetwork
from medfm3d.adaptation.encoder_tuning import EncoderTuning
from medfm3d.adaptation.insertion import blocks_of
from medfm3d.adaptation.layer_rates import layer_groups
from medfm3d.encoders import Encoder


class LastBlocks(EncoderTuning):
    """Train the last blocks of the encoder and what follows them; the first keep what all scans share.

    Args:
        blocks: how many.
        decay_per_layer: learning rate of a block by that of the next one.
        encoder_learning_rate: of the last block.
        options: as of `EncoderTuning`.

    Raises:
        ValueError: if there is no block to train.
    """

    name = "last-blocks"
    keeps_encoder = False

    def __init__(
        self, blocks: int = 2, decay_per_layer: float = 0.75, encoder_learning_rate: float = 3e-4, **options: Any
    ) -> None:
        super().__init__(encoder_learning_rate=encoder_learning_rate, **options)
        if blocks < 1:
            raise ValueError(f"method {self.name}: at least one block must learn, got {blocks}")
        self.blocks = blocks
        self.decay_per_layer = decay_per_layer

    def insert(self, encoder: Encoder) -> None:
        """Insert nothing; refuse an encoder that has fewer blocks than are to learn."""
        there = len(blocks_of(encoder, self))
        if self.blocks > there:
            raise ValueError(f"method {self.name}: {type(encoder).__name__} has {there} blocks, not {self.blocks}")

    def encoder_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return a group per trained block."""
        return layer_groups(network.encoder, self.encoder_learning_rate, self.decay_per_layer, deepest=self.blocks)
