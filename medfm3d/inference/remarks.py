"""What a bundle's priors find remarkable in its masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medfm3d.inference.bundle_reader import read_plan, read_priors
from medfm3d.priors import PriorSet, Surprise
from medfm3d.volumes import Volume, detect_modality, output_name, read_label, read_volume


def list_remarks(
    bundle: str | Path, masks: Sequence[str | Path], images: Sequence[str | Path | None] | None = None
) -> list[dict[str, Any]]:
    """Return one remark for each organ of each mask that surprises a prior of the bundle, or for a scan that does.

    Args:
        bundle: an adapted bundle.
        masks: mask files that it wrote.
        images: the scan of each mask, or None where it is not at hand: priors that need it, that of the location, are
            not asked then.

    Returns:
        Dictionaries with `case`, `organ`, `prior`, `text`, `p_value` and `z`, in the order of the masks. Of a scan
        that is not of the bundle's modality, by its intensities, `prior` is "modality" and `organ` empty.

    Raises:
        BundleError: if the folder is no adapted bundle.
        VolumeError: if a mask cannot be read.
    """
    plan, priors = read_plan(bundle), read_priors(bundle)
    return [
        remark
        for mask, image in zip(masks, images or [None] * len(masks), strict=True)
        for remark in case_remarks(mask, image, plan.organs, priors, modality=plan.modality)
    ]


def case_remarks(
    mask: str | Path | Volume,
    image: str | Path | None,
    organs: Mapping[str, int],
    priors: PriorSet,
    *,
    modality: str | None = None,
) -> list[dict[str, Any]]:
    """Return the remarks on one mask, a file or what was written to its source; see `list_remarks`."""
    scan = None if image is None else read_volume(image)
    labels = mask if isinstance(mask, Volume) else read_label(mask)
    surprises = priors.surprise(labels, organs, scan)
    told = [one for one in surprises if one.p_value < priors[one.prior].surprising]
    if scan is not None and modality is not None and (unlike := _unlike(scan, modality)):
        told.insert(0, Surprise("", "modality", unlike, 0.0))
    return [{"case": output_name(labels.source), **one.to_json()} for one in told]


def _unlike(scan: Volume, modality: str) -> str | None:
    """Say why a scan is not of a modality, where that is certain: a CT of soft tissue alone looks like MR."""
    if modality == "MR" and detect_modality(scan.array) == "CT":
        return "the scan looks like CT, with values of air, and the bundle was adapted to MR"
    if modality == "CT" and scan.array.min() >= 0:
        return "the scan has no value below 0, so it holds no Hounsfield units, and the bundle was adapted to CT"
    return None
