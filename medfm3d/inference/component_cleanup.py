"""Optional clean-up of masks in a bundle's post-processing, with a list of what it took away."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medfm3d.inference.bundle_writer import BundleError
from medfm3d.inference.case_files import case_file, read_case_lists
from medfm3d.priors import ComponentsPrior, PriorSet, keep_expected_components
from medfm3d.volumes import Volume, write_json

CHANGES_SUFFIX = "_changes.json"


class KeepExpectedComponentsd(MapTransform):
    """Keep of each organ as many pieces as a bundle's priors expect, the largest, and write what was removed.

    For each scan NAME a file NAME_changes.json lists the removed pieces (an empty list where there are none), so that
    no mask is changed silently.

    Args:
        keys: masks with ids as in the label files, (1, D, H, W) each, on the scan's grid.
        priors_file: the bundle's fitted priors.
        organs: label id of each organ.
        output_dir: folder of the lists.

    Raises:
        BundleError: when called, if the priors say nothing of the number of pieces.
    """

    def __init__(
        self, keys: KeysCollection, priors_file: str | Path, organs: Mapping[str, int], output_dir: str | Path
    ) -> None:
        super().__init__(keys)
        self.priors_file = Path(priors_file)
        self.organs = dict(organs)
        self.output_dir = Path(output_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the masks cleaned."""
        result = dict(data)
        prior = self._prior()
        for key in self.key_iterator(result):
            tensor = result[key]
            mask = Volume(np.asarray(tensor.cpu())[0].astype(np.uint16), np.asarray(tensor.affine))
            kept, changes = keep_expected_components(mask, self.organs, prior)
            array = torch.from_numpy(kept.array.astype(np.int32))[None].to(tensor.device)
            result[key] = MetaTensor(array).copy_meta_from(tensor)
            file = changes_file(self.output_dir, tensor.meta["filename_or_obj"])
            write_json([change.to_json() for change in changes], file)
        return result

    def _prior(self) -> ComponentsPrior:
        priors = PriorSet.load(self.priors_file).priors
        if ComponentsPrior.name not in priors:
            raise BundleError(f"{self.priors_file}: says nothing of the number of pieces; adapt again")
        return priors[ComponentsPrior.name]


def changes_file(output_dir: str | Path, scan: str | Path) -> Path:
    """Return where `KeepExpectedComponentsd` writes what it took away from the mask of a scan."""
    return case_file(output_dir, scan, CHANGES_SUFFIX)


def list_changes(folder: str | Path) -> list[dict[str, Any]] | None:
    """Return what `KeepExpectedComponentsd` took away from the masks of a folder, or None if it was not used there.

    Each change has the fields of `medfm3d.priors.Change` and `case`.
    """
    return read_case_lists(folder, CHANGES_SUFFIX)
