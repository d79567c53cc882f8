"""Visual prompt tuning: learnt tokens beside those of the image."""

from typing import Any

from medfm3d.adaptation.adapter import AdaptableNetwork
from medfm3d.adaptation.encoder_tuning import EncoderTuning
from medfm3d.adaptation.insertion import inserted_parameters
from medfm3d.encoders import Encoder


class PromptTuning(EncoderTuning):
    """Train a few tokens that every block attends to beside the image's own; they are dropped from the output.

    Prompts draw attention from the first step on, so that the encoder does not start exactly as it was.

    Source: Jia et al. 2022, "Visual Prompt Tuning": VPT-deep (new tokens in front of every block) and VPT-shallow (in
    front of the first alone).

    Args:
        tokens: number of prompt tokens.
        deep: VPT-deep if True, VPT-shallow if False.
        options: as of `EncoderTuning`.

    Raises:
        ValueError: if there is no token.
    """

    name = "prompt-tuning"
    starts_as_identity = False

    def __init__(self, tokens: int = 16, deep: bool = True, **options: Any) -> None:
        super().__init__(**options)
        if tokens < 1:
            raise ValueError(f"method {self.name}: at least one token is needed, got {tokens}")
        self.tokens = tokens
        self.deep = deep

    def insert(self, encoder: Encoder) -> None:
        """Insert the tokens; see `Adapter.insert`."""
        encoder.insert_prompts(self.tokens, deep=self.deep)

    def encoder_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return the tokens."""
        return [{"params": inserted_parameters(network), "lr": self.encoder_learning_rate}]
