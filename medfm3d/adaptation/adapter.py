"""The contract that every adaptation method fulfils."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


class AdaptableNetwork(Protocol):
    """What an adapter needs to know of a segmenter: its parts in the order in which a window passes them."""

    encoder: nn.Module
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


@dataclass(frozen=True)
class TrainingDefaults:
    """How long and how fast a method trains unless the user says otherwise.

    Attributes:
        iterations: optimiser steps.
        batch_size: windows a step.
    """

    iterations: int
    batch_size: int = 2


class Adapter(ABC):
    """One way to turn a pretrained network and K labelled scans into an organ segmenter.

    A method says which module, if any, it puts between features and classifier; which weights it trains and how fast;
    and whether the features in front of them never change, so that they are computed once and cached.

    Attributes:
        name: the name by which CLI and bundle configs select it.
        caches_features: True if neither encoder nor decoder is trained.
        defaults: training length and batch size.
    """

    name: str
    caches_features: bool
    defaults: TrainingDefaults

    def feature_adapter(self, channels: int) -> nn.Module:
        """Return the module, (B, channels, D, H, W) to the same shape, between features and classifier."""
        return nn.Identity()

    @abstractmethod
    def parameter_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
        """Return optimiser groups (`params`, `lr`) of the weights that this method trains."""

    def freeze(self, network: AdaptableNetwork) -> None:
        """Let gradients flow into the trained weights only."""
        trained = {id(p) for group in self.parameter_groups(network) for p in group["params"]}
        for p in network.parameters():
            p.requires_grad_(id(p) in trained)

    def trained_module(self, network: AdaptableNetwork) -> nn.Module:
        """Return the module that a trainer runs: the whole network, or what follows the cached features."""
        return FeatureClassifier(network) if self.caches_features else network


class FeatureClassifier(nn.Module):
    """The part of a network behind its cached features, as a module of its own."""

    def __init__(self, network: AdaptableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, 1 + organs, D, H, W) of features (B, F, D, H, W)."""
        return self.network.classify(features)
