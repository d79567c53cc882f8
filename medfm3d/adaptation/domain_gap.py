"""How far scans are from those that an encoder was pretrained on, measured on the encoder's features."""

import base64
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medfm3d.encoders import Encoder

TOKENS_PER_SCAN = 1024  # drawn from a scan's windows; the distance of few tokens is larger for the same scans
FORMAT = "medfm3d-features-2"


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and covariance of the tokens of an encoder's last map over the scans of one modality.

    Attributes:
        mean: (channels,).
        covariance: (channels, channels).
        scans: how many scans entered.
        typical_distance: mean Fréchet distance of a single one of these scans to all others together: what distance
            means among scans that are alike.
        window: sides (D, H, W) of the windows in which the encoder saw them: its features change with these and with
            how much of the scan's surroundings they show, so that others are measured in windows drawn the same way.
    """

    mean: np.ndarray
    covariance: np.ndarray
    scans: int
    typical_distance: float
    window: tuple[int, int, int]

    @classmethod
    def measure(cls, encoder: Encoder, scans: Iterable[Tensor], *, seed: int = 0) -> "FeatureStatistics":
        """Measure the statistics of scans of one modality.

        Args:
            encoder: in evaluation mode.
            scans: for each scan some of its windows, (N, C, D, H, W) of one size, preprocessed as for the encoder, on
                its device.
            seed: of the draw of tokens.

        Raises:
            ValueError: if there are fewer than two scans, among which nothing is typical, or windows of several sizes.
        """
        scans = list(scans)
        windows = {tuple(int(side) for side in scan.shape[2:]) for scan in scans}
        each = [_Moments.of(tokens) for tokens in scan_tokens(encoder, scans, seed=seed)]
        if len(each) < 2:
            raise ValueError(f"statistics of pretraining scans need two scans or more, got {len(each)}")
        if len(windows) > 1:
            raise ValueError(f"statistics of pretraining scans need windows of one size, got {sorted(windows)}")
        together = _Moments.sum(each)
        distances = [frechet_distance(*one.normal(), *together.without(one).normal()) for one in each if one.count > 1]
        return cls(*together.normal(), len(each), float(np.mean(distances)), windows.pop())

    def gap(self, encoder: Encoder, scans: Iterable[Tensor], *, seed: int = 0) -> float:
        """Return the mean distance of scans to these statistics by their typical distance; 1 means like pretraining.

        Each scan is measured by itself, so that the figure does not depend on how many there are. Arguments as of
        `measure`.

        Raises:
            ValueError: if there is no scan, the windows are of another size, or the encoder has another number of
                channels.
        """
        if encoder.channels[-1] != len(self.mean):
            raise ValueError(
                f"these statistics have {len(self.mean)} channels, the encoder {encoder.channels[-1]}: they belong to "
                "another encoder"
            )
        each = [_Moments.of(tokens).normal() for tokens in scan_tokens(encoder, self._checked(scans), seed=seed)]
        if not each:
            raise ValueError("no scan to measure the domain gap of")
        distances = [frechet_distance(mean, covariance, self.mean, self.covariance) for mean, covariance in each]
        return float(np.mean(distances)) / self.typical_distance

    def _checked(self, scans: Iterable[Tensor]) -> Iterator[Tensor]:
        for windows in scans:
            if tuple(windows.shape[2:]) != self.window:
                raise ValueError(f"windows of {tuple(windows.shape[2:])} compare with no statistics of {self.window}")
            yield windows

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; half-precision numbers in base64, about 50 kB for 192 channels."""
        upper = self.covariance[np.triu_indices(len(self.mean))]
        return {
            "format": FORMAT,
            "channels": len(self.mean),
            "mean": _encoded(self.mean),
            "covariance": _encoded(upper),
            "scans": self.scans,
            "typical_distance": self.typical_distance,
            "window": list(self.window),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FeatureStatistics":
        """Return statistics from what `to_json` gave.

        Raises:
            ValueError: if the content has another format.
        """
        if content.get("format") != FORMAT:
            raise ValueError(f"feature statistics: unknown format {content.get('format')!r}, expected {FORMAT!r}")
        channels = content["channels"]
        covariance = np.zeros((channels, channels))
        covariance[np.triu_indices(channels)] = _decoded(content["covariance"])
        covariance += np.triu(covariance, 1).T
        window = tuple(content["window"])
        return cls(_decoded(content["mean"]), covariance, content["scans"], content["typical_distance"], window)


def frechet_distance(mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other: np.ndarray) -> float:
    """Return the Fréchet distance of two normal distributions of means (C,) and covariances (C, C).

    d² = |m - n|² + tr(A + B - 2 (A^½ B A^½)^½), as in Heusel et al. 2017, who report d² of the features of Inception
    and call it FID; here it is d, which grows with a shift in proportion.
    """
    root = _root(covariance)
    crossed = np.linalg.eigvalsh(root @ other @ root).clip(min=0)
    squared = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other) - 2 * np.sqrt(crossed).sum()
    return math.sqrt(max(0.0, float(squared)))


@torch.no_grad()
def scan_tokens(encoder: Encoder, scans: Iterable[Tensor], *, seed: int = 0) -> Iterable[np.ndarray]:
    """Yield for each scan at most `TOKENS_PER_SCAN` tokens (N, channels) of the encoder's last map; see `measure`."""
    generator = np.random.default_rng(seed)
    for windows in scans:
        maps = [encoder(window[None].float())[-1] for window in windows]
        tokens = torch.cat([m.flatten(2).transpose(1, 2)[0] for m in maps]).double().cpu().numpy()
        yield tokens[generator.permutation(len(tokens))[:TOKENS_PER_SCAN]]


@dataclass(frozen=True)
class _Moments:
    """Count, sum and sum of outer products of tokens: what can be added and subtracted."""

    count: int
    total: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray) -> "_Moments":
        return cls(len(tokens), tokens.sum(axis=0), tokens.T @ tokens)

    @classmethod
    def sum(cls, parts: list["_Moments"]) -> "_Moments":
        count = sum(part.count for part in parts)
        return cls(count, sum(part.total for part in parts), sum(part.products for part in parts))

    def without(self, part: "_Moments") -> "_Moments":
        return _Moments(self.count - part.count, self.total - part.total, self.products - part.products)

    def normal(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.total / self.count
        return mean, self.products / self.count - np.outer(mean, mean)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def _encoded(values: np.ndarray) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f2").tobytes()).decode("ascii")


def _decoded(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f2").astype(np.float64)
