"""Log-priors on logits in a bundle's post-processing, with a list of every voxel that they turned."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medfm3d.inference.bundle_writer import BundleError
from medfm3d.inference.case_files import case_file, read_case_lists
from medfm3d.inference.organ_location import read_frame
from medfm3d.priors import OrganScores, Prior, PriorSet
from medfm3d.volumes import write_json

SUFFIX = "_log_priors.json"


class AddLogPriorsd(MapTransform):
    """Add the log-priors of a bundle to its logits, one prior after the other, and write what that changed.

    It works on the network's grid, before the softmax. For each scan NAME a file NAME_log_priors.json lists, for each
    prior and organ, how many voxels of that grid the organ gained and lost (an empty list where there are none).

    Args:
        keys: logits, (1 + organs, D, H, W) each, background first.
        priors_file: the bundle's fitted priors.
        organs: names in channel order.
        priors: names of the priors, in the order in which they are added.
        output_dir: folder of the lists.
        weight: factor of what priors add.
        image_key: entry of the scan, whose body was found by `LocateOrgansd`.

    Raises:
        BundleError: when called, if the bundle has no such prior, or a prior needs the body's frame and there is none.
    """

    def __init__(
        self,
        keys: KeysCollection,
        priors_file: str | Path,
        organs: Sequence[str],
        priors: Sequence[str],
        output_dir: str | Path,
        weight: float = 1.0,
        image_key: str = "image",
    ) -> None:
        super().__init__(keys)
        self.priors_file = Path(priors_file)
        self.organs = tuple(organs)
        self.names = tuple(priors)
        self.output_dir = Path(output_dir)
        self.weight = weight
        self.image_key = image_key
        self._priors: list[Prior] | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the logits changed."""
        result = dict(data)
        image: MetaTensor = result[self.image_key]
        frame = read_frame(image)
        for key in self.key_iterator(result):
            tensor = result[key]
            logits = np.asarray(tensor.cpu(), dtype=np.float32)
            affine = np.asarray(getattr(tensor, "affine", image.affine), dtype=float)  # of the scan, or of a box of it
            scores = OrganScores(logits, affine, self.organs, frame)
            changes = []
            for prior in self._named():
                if prior.needs_image and frame is None:
                    raise BundleError(f"the {prior.name} prior needs the body's frame: put LocateOrgansd in front")
                after = scores.plus(prior.logit_offsets(scores), self.weight)
                changes += _changes(prior.name, scores, after)
                scores = after
            logits = torch.from_numpy(scores.logits).to(tensor.device)
            result[key] = MetaTensor(logits).copy_meta_from(tensor) if isinstance(tensor, MetaTensor) else logits
            write_json(changes, log_priors_file(self.output_dir, image.meta["filename_or_obj"]))
        return result

    def _named(self) -> list[Prior]:
        if self._priors is None:
            stored = PriorSet.load(self.priors_file).priors
            if absent := [name for name in self.names if name not in stored]:
                raise BundleError(
                    f"{self.priors_file}: has no prior {', '.join(absent)}, only {', '.join(stored)}; adapt again"
                )
            self._priors = [stored[name] for name in self.names]
        return self._priors


def log_priors_file(output_dir: str | Path, scan: str | Path) -> Path:
    """Return where `AddLogPriorsd` writes what it changed in the mask of a scan."""
    return case_file(output_dir, scan, SUFFIX)


def list_log_priors(folder: str | Path) -> list[dict[str, Any]] | None:
    """Return what log-priors changed in the masks of a folder, or None if none were added there.

    Each entry has `case`, `prior`, `organ`, and `gained` and `lost`, voxels of the network's grid, also as `gained_ml`
    and `lost_ml`.
    """
    return read_case_lists(folder, SUFFIX)


def _changes(prior: str, before: OrganScores, after: OrganScores) -> list[dict[str, Any]]:
    voxel_ml = before.label.voxel_volume_ml
    found = []
    for organ in before.organs:
        was, now = before.mask(organ), after.mask(organ)
        gained, lost = int((now & ~was).sum()), int((was & ~now).sum())
        if gained or lost:
            counts = {"gained": gained, "lost": lost, "gained_ml": gained * voxel_ml, "lost_ml": lost * voxel_ml}
            found.append({"prior": prior, "organ": organ, **counts})
    return found
