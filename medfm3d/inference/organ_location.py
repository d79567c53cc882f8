"""Where a bundle's location prior puts organs in a scan, noted in the scan's metadata."""

import json
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medfm3d.inference.bundle_writer import BundleError
from medfm3d.priors import BodyFrame, LocationPrior, OrganBox, PriorSet, find_body
from medfm3d.volumes import Volume, VolumeWarning

FRAME_KEY, BOXES_KEY = "body_frame", "organ_boxes"


class LocateOrgansd(MapTransform):
    """Find the body in a scan, and the box of each organ, and note both in the scan's metadata as JSON.

    Metadata go where transforms and data loaders take the scan, into the inferer too: `read_frame` and `read_boxes` get
    them back. It must come before intensities are changed.

    Args:
        keys: scans with intensities as stored, MetaTensors (1, D, H, W).
        modality: "CT" or "MR".
        organs: names, in the order of the network's channels after background.
        priors_file: the bundle's fitted priors, for boxes; None to find the body alone.
        margin_mm: added to the boxes at every face.

    Raises:
        BundleError: when called, if boxes are asked for and the file has no location prior of every organ.
    """

    def __init__(
        self,
        keys: KeysCollection,
        modality: str,
        organs: Sequence[str],
        priors_file: str | Path | None = None,
        margin_mm: float = 0.0,
    ) -> None:
        super().__init__(keys)
        self.modality = modality
        self.organs = tuple(organs)
        self.priors_file = priors_file
        self.margin_mm = margin_mm
        self._prior: LocationPrior | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data; the scans have two more entries of metadata."""
        result = dict(data)
        for key in self.key_iterator(result):
            tensor: MetaTensor = result[key]
            scan = Volume(np.asarray(tensor.as_tensor().cpu())[0], np.asarray(tensor.affine))
            frame = find_body(scan, self.modality)
            tensor.meta[FRAME_KEY] = json.dumps(frame.to_json())
            if self.priors_file is not None:
                prior = self._location_prior()
                boxes = prior.boxes(self.organs, frame, self.margin_mm)
                if None in boxes.values():
                    name = tensor.meta.get("filename_or_obj", "scan")
                    message = (
                        f"{name}: shows another part of the body than the support set, so it is searched as a whole"
                    )
                    warnings.warn(message, VolumeWarning, stacklevel=2)
                tensor.meta[BOXES_KEY] = json.dumps({organ: box and asdict(box) for organ, box in boxes.items()})
        return result

    def _location_prior(self) -> LocationPrior:
        if self._prior is None:
            prior = PriorSet.load(self.priors_file).priors.get(LocationPrior.name)
            if prior is None or not set(self.organs) <= set(prior.organs_):
                raise BundleError(f"{self.priors_file}: says not of every organ where it lies; adapt again")
            self._prior = prior
        return self._prior


def read_frame(scan: MetaTensor) -> BodyFrame | None:
    """Return the body frame that `LocateOrgansd` noted, or None."""
    noted = _noted(scan, FRAME_KEY)
    return None if noted is None else BodyFrame.from_json(noted)


def read_boxes(scan: MetaTensor) -> dict[str, OrganBox | None] | None:
    """Return the boxes that `LocateOrgansd` noted, None for an organ whose place is not known; or None."""
    noted = _noted(scan, BOXES_KEY)
    if noted is None:
        return None
    return {organ: box and OrganBox(tuple(box["low_mm"]), tuple(box["high_mm"])) for organ, box in noted.items()}


def _noted(scan: MetaTensor, key: str) -> Any:
    text = scan.meta.get(key) if isinstance(scan, MetaTensor) else None
    if isinstance(text, list | tuple):  # a batch, as data loaders make it
        if len(text) != 1:
            raise ValueError(f"one scan at a time is searched in its box, got a batch of {len(text)}")
        text = text[0]
    return None if text is None else json.loads(text)
