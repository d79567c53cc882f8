"""How published weights saw intensities, on the scale that medfm3d gives its networks."""

from collections.abc import Mapping
from typing import Any

from medfm3d.encoders.input_intensity import InputIntensity
from medfm3d.volumes.intensity import CT_CENTRE_HU, CT_SPREAD_HU


def input_intensity(intensity: Mapping[str, Any] | None) -> InputIntensity | None:
    """Return the change of scale in front of an encoder, from `IntensityNormalized`'s to that of its training.

    Preprocessing brings a Hounsfield unit to (HU - 10) / 80, within its window. That is undone and what the weights
    were trained with is done instead, so Hounsfield units in both windows arrive as in training; those that
    preprocessing clips arrive clipped (`medfm3d.adaptation.encoder_remarks` says so). MR is standardised by both sides.

    Args:
        intensity: as of a catalogue entry; None if not known.

    Returns:
        None where nothing is to be done, or nothing is known.
    """
    if intensity is None or intensity["kind"] == "z-score":
        return None
    if intensity["kind"] == "hu-window":
        (first, last), (low, high) = intensity["window_hu"], intensity["range"]
        per_hu = (high - low) / (last - first)
        at_zero = low - first * per_hu
    else:
        first, last = intensity["clip_hu"]
        per_hu = 1 / intensity["deviation_hu"]
        at_zero = -intensity["mean_hu"] * per_hu
        low, high = first * per_hu + at_zero, last * per_hu + at_zero
    return InputIntensity(CT_SPREAD_HU * per_hu, CT_CENTRE_HU * per_hu + at_zero, low, high)


def window_hu(intensity: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """Return the Hounsfield units at which training clipped, or None if it did not or nobody knows."""
    if intensity is None or intensity["kind"] == "z-score":
        return None
    low, high = intensity["window_hu" if intensity["kind"] == "hu-window" else "clip_hu"]
    return low, high
