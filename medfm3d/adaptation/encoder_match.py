"""Whether imported weights have seen scans like those of an adaptation plan."""

from collections.abc import Mapping
from typing import Any

from medfm3d.adaptation.plan import AdaptationPlan
from medfm3d.encoders.public_weights import imported_origin, window_hu
from medfm3d.volumes.intensity import CT_WINDOW_HU

# A voxel that is half as large again or more along an axis shows another picture of the same organ.
FAR_SPACING = 1.5


def encoder_remarks(provenance: Mapping[str, Any], plan: AdaptationPlan) -> list[str]:
    """Return in words what differs between the scans of an encoder's training and those of a plan.

    Args:
        provenance: of the encoder's weights, as an import writes it; of other weights nothing is known to compare.
        plan: the adaptation plan.
    """
    remarks = []
    origin = imported_origin(provenance)
    if origin is not None and origin["licence"]["warning"]:
        remarks.append(f"licence {origin['licence']['name']}: {origin['licence']['warning']}")
    if origin is not provenance:
        return remarks  # pretraining that went on from there has seen other scans since
    if provenance["not_loaded"]:
        remarks.append(
            f"only {provenance['share_loaded']:.1%} of the encoder's weights were loaded; the rest is random"
        )
    if plan.modality not in provenance["modality"]:
        trained = ", ".join(provenance["modality"])
        remarks.append(f"the encoder was trained on {trained} and these scans are {plan.modality}")
    spacing = provenance["spacing_mm"]
    if spacing is not None and any(
        max(ours / theirs, theirs / ours) >= FAR_SPACING for ours, theirs in zip(plan.spacing_mm, spacing, strict=True)
    ):
        remarks.append(
            f"the encoder was trained at {_listed(spacing)} mm and works here at {_listed(plan.spacing_mm)} mm; "
            "--spacing-mm sets that"
        )
    if plan.modality == "CT":
        remarks += _intensity_remarks(provenance["intensity"])
    return remarks


def _intensity_remarks(intensity: Mapping[str, Any] | None) -> list[str]:
    if intensity is None:
        return ["how intensities were normalised when the encoder was trained is not known; it sees those of medfm3d"]
    window = window_hu(intensity)
    low, high = CT_WINDOW_HU
    if window is None or (window[0] >= low and window[1] <= high):
        return []
    return [
        f"the encoder was trained on {window[0]:.0f} to {window[1]:.0f} HU and sees {low:.0f} to {high:.0f} HU here"
    ]


def _listed(spacing: Any) -> str:
    return " x ".join(f"{size:g}" for size in spacing)
