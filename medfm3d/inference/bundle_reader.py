"""Opening an adapted bundle."""

import json
from pathlib import Path
from typing import Any

from medfm3d.adaptation import AdaptationPlan
from medfm3d.inference.bundle_writer import CARD_FILE, PRIORS_FILE, BundleError
from medfm3d.priors import PriorSet

_NEEDED = ("configs/inference.json", "configs/metadata.json", "models/model.pt", CARD_FILE)


def read_card(bundle: str | Path) -> dict[str, Any]:
    """Return what an adapted bundle says of itself: plan, method, support, provenance.

    Raises:
        BundleError: if the folder is not a complete adapted bundle.
    """
    bundle = Path(bundle)
    absent = [name for name in _NEEDED if not (bundle / name).is_file()]
    if absent:
        raise BundleError(
            f"{bundle}: is not an adapted bundle, {', '.join(absent)} is missing; make one by medfm3d adapt"
        )
    try:
        card = json.loads((bundle / CARD_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{bundle / CARD_FILE}: is not valid JSON ({error}); adapt again") from error
    form = card.get("format") if isinstance(card, dict) else type(card).__name__
    if form != "medfm3d-segmenter-1":
        raise BundleError(f"{bundle / CARD_FILE}: has an unknown format {form!r}; update medfm3d")
    return card


def read_plan(bundle: str | Path) -> AdaptationPlan:
    """Return the adaptation plan of a bundle; raises as `read_card`."""
    return AdaptationPlan(**read_card(bundle)["plan"])


def read_priors(bundle: str | Path) -> PriorSet:
    """Return the organ priors of a bundle.

    Raises:
        BundleError: if the bundle has none, or they are damaged.
    """
    path = Path(bundle) / PRIORS_FILE
    if not path.is_file():
        raise BundleError(f"{path}: no such file; the bundle was made without priors, adapt again")
    try:
        return PriorSet.load(path)
    except ValueError as error:
        raise BundleError(str(error)) from error
