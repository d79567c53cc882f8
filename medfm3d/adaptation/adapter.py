"""The contract that every adaptation method fulfils."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from medfm3d.encoders import Encoder


class AdaptableNetwork(Protocol):
    """What an adapter needs to know of a segmenter: its parts in the order in which a window passes them.

    Attributes:
        organs: names in the order of the channels after background.
        encoder: with what the method inserted.
        encoder_names: name in the encoder of each tensor of the plain encoder, from `insert_into`.
        decoder: its last step is its module `refine`.
        adapter: between features and classifier.
        classifier: the 1 x 1 x 1 convolution to logits.
    """

    organs: Sequence[str]
    encoder: Encoder
    encoder_names: dict[str, str]
    decoder: nn.Module
    adapter: nn.Module
    classifier: nn.Module

    def features(self, x: Tensor) -> Tensor:
        """Window (B, C, D, H, W) to full-resolution features (B, F, D, H, W)."""
        ...

    def classify(self, features: Tensor) -> Tensor:
        """Features (B, F, D, H, W) to logits (B, 1 + organs, D, H, W)."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """All weights."""
        ...


MANY_ORGANS = 4


@dataclass(frozen=True)
class TrainingDefaults:
    """How long and how fast a method trains unless the user says otherwise.

    Attributes:
        iterations: optimiser steps.
        batch_size: windows a step.
        iterations_of_many: optimiser steps from `MANY_ORGANS` organs on; as many as for fewer if None.
    """

    iterations: int
    batch_size: int = 2
    iterations_of_many: int | None = None

    def iterations_for(self, organs: int) -> int:
        """Return the optimiser steps for so many organs."""
        return (organs >= MANY_ORGANS and self.iterations_of_many) or self.iterations


def equal_epochs(iterations: int) -> int:
    """Return into how many epochs of one length so many steps are parted, at most ten: losses are told after each."""
    return max(epochs for epochs in range(1, 11) if iterations % epochs == 0)


class Adapter(ABC):
    """One way to turn a pretrained network and K labelled scans into an organ segmenter.

    A method says what, if anything, it inserts into the encoder and puts between features and classifier; which weights
    it trains and how fast; and whether the features in front of them never change, so that they are computed once and
    cached. What it inserts follows from its arguments and the encoder alone, so that a network built from names takes
    the state dict of a trained one.

    Attributes:
        name: the name by which CLI and bundle configs select it.
        caches_features: True if neither encoder nor decoder is trained.
        keeps_encoder: True if the pretrained encoder's own weights stay as they are.
        starts_as_identity: True if the encoder with what was inserted starts by giving what it gave before.
        defaults: training length and batch size.
    """

    name: str
    caches_features: bool
    keeps_encoder: bool = True
    starts_as_identity: bool = True
    defaults: TrainingDefaults

    @property
    def needs_pretrained_decoder(self) -> bool:
        """Whether the decoder is never trained, so that random weights in it would stay random."""
        return self.caches_features

    def insert(self, encoder: Encoder) -> None:  # noqa: B027 (most methods insert nothing)
        """Put the method's own modules into a plain encoder, in place; call it through `insert_into`.

        Raises:
            ValueError: if the method does not apply to such an encoder.
        """

    def encoder_loaded(self, encoder: Encoder) -> None:  # noqa: B027 (most insertions fit any weights)
        """Make what was inserted fit the encoder's own weights, after pretrained ones were loaded into it."""

    def merge(self, encoder: Encoder) -> None:
        """Turn an encoder with what was inserted into a plain one that computes the same, in place.

        Raises:
            ValueError: if what this method inserts cannot be expressed by a plain encoder's weights.
        """
        raise ValueError(f"method {self.name} has nothing that could be merged into a plain encoder")

    def feature_adapter(self, channels: int) -> nn.Module:
        """Return the module, (B, channels, D, H, W) to the same shape, between features and classifier."""
        return nn.Identity()

    @abstractmethod
    def parameter_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return groups (`params`, `lr`, maybe `muon`) of the weights that this method trains, for `MuonAdamW`."""

    def refined_parameters(self, network: AdaptableNetwork) -> list[nn.Parameter]:
        """Return the few weights that may be refined on a query (see `medfm3d.inference.TransductiveInferer`).

        They lie behind the decoder's last step but one. By default these are its last step and the classifier.
        """
        return [*network.decoder.refine.parameters(), *network.classifier.parameters()]

    def freeze(self, network: AdaptableNetwork) -> None:
        """Let gradients flow into the trained weights only."""
        trained = {id(p) for group in self.parameter_groups(network) for p in group["params"]}
        for p in network.parameters():
            p.requires_grad_(id(p) in trained)

    def trained_module(self, network: AdaptableNetwork) -> nn.Module:
        """Return the module that a trainer runs: the whole network, or what follows the cached features."""
        return FeatureClassifier(network) if self.caches_features else network


def decoding_group(network: AdaptableNetwork, learning_rate: float, *, train_decoder: bool = True) -> dict[str, Any]:
    """Return the optimiser group of classifier and, unless it is kept, decoder; the convolutions take Muon."""
    decoder = network.decoder.parameters() if train_decoder else ()
    return {"params": [*decoder, *network.classifier.parameters()], "lr": learning_rate, "muon": True}


class FeatureClassifier(nn.Module):
    """The part of a network behind its cached features, as a module of its own."""

    def __init__(self, network: AdaptableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, 1 + organs, D, H, W) of features (B, F, D, H, W)."""
        return self.network.classify(features)
