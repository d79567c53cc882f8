"""Which scan to outline next: the one whose label would help most."""

from collections.abc import Sequence

import numpy as np


def help_of_each(features: np.ndarray, labelled: Sequence[int], predicted_dice: np.ndarray | None = None) -> np.ndarray:
    """Return how much a label of each scan would help, by what the encoder says of all scans and the model of each.

    A label is taken to help the scans that look like it, the more the worse their masks are and the less they look like
    a scan that is labelled already: the gain in weighted coverage, which is the facility location function (Wei, Iyer
    and Bilmes, ICML 2015) with weights 1 - predicted Dice. The first scan so chosen is the most central one, as befits
    few labels: typical scans help then, and unusual ones later (Hacohen, Dekel and Weinshall, ICML 2022).

    Args:
        features: (scans, channels), from `scan_features`.
        labelled: indices of the scans that have labels.
        predicted_dice: (scans,) from 0 to 1, NaN where not known; None if there is no model yet.

    Returns:
        (scans,) not negative; 0 for labelled scans.
    """
    distances = _distances(features)
    weights = np.ones(len(features)) if predicted_dice is None else 1 - np.asarray(predicted_dice, dtype=float)
    known = np.isfinite(weights)
    weights = np.where(known, weights, weights[known].mean() if known.any() else 1.0)
    weights[list(labelled)] = 0.0
    far = distances.max() if distances.size else 0.0
    nearest = distances[:, list(labelled)].min(axis=1) if len(labelled) else np.full(len(features), far)
    gains = (weights * np.maximum(nearest - distances, 0)).sum(axis=1)
    gains[list(labelled)] = 0.0
    return gains


def choose_next(
    features: np.ndarray, labelled: Sequence[int], predicted_dice: np.ndarray | None = None, count: int = 1
) -> list[int]:
    """Return the indices of the scans to label next, best first; arguments as of `help_of_each`.

    Several are chosen one after the other, each as if those before it were labelled.
    """
    chosen: list[int] = []
    while len(chosen) < min(count, len(features) - len(labelled)):
        taken = [*labelled, *chosen]
        gains = help_of_each(features, taken, predicted_dice)
        gains[taken] = -1.0
        chosen.append(int(gains.argmax()))
    return chosen


def _distances(features: np.ndarray) -> np.ndarray:
    """Euclidean distances between scans, each channel standardised over them."""
    features = np.asarray(features, dtype=float)
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    return np.sqrt(np.maximum(((standard[:, None] - standard[None]) ** 2).sum(axis=-1), 0))
