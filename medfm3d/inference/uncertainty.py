"""How sure the network is of each voxel and each organ, and how good that makes its masks."""

import json
import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.stats import norm

from medfm3d.inference.assessed_labels import ENTROPY_STEPS, read_soft_dice
from medfm3d.inference.augmented_inferer import AGREEMENT
from medfm3d.inference.case_files import case_file, find_case_files
from medfm3d.inference.predicted_dice import PredictedDice
from medfm3d.priors import PriorSet, VolumePrior, touches_edge
from medfm3d.volumes import Volume, mask_box, output_name, write_json, write_volume

QUALITY_SUFFIX = "_quality.json"
UNCERTAINTY_POSTFIX = "uncertainty"


class AssessQualityd(SaveImaged):
    """Say how good the mask of each organ probably is, and on request how sure the network is of each voxel.

    For each scan NAME a file NAME_quality.json gets the predicted Dice of each organ and the features that it comes
    from (see `organ_features`). The volume NAME_uncertainty holds the entropy of each voxel's probabilities, 0 for
    certain and 1 for no idea. Masks and soft Dice come from `KeepAssessedLabels`, so this sees them before any
    clean-up. It is a `SaveImaged` because tools that return the result themselves, MONAI Label among them, drop those.

    Args:
        keys: assessed labels on the scan's grid, (1, D, H, W), or (2, D, H, W) with entropy.
        organs: names in channel order.
        priors_file: the bundle's fitted priors, of which the volume prior is asked.
        model: the calibrated models; None for features alone.
        output_dir: folder to write to.
        output_ext: file type of the uncertainty, such as ".nii.gz".
        save_uncertainty: whether to write it; labels must come with entropy then.
    """

    def __init__(
        self,
        keys: KeysCollection,
        organs: Sequence[str],
        priors_file: str | Path,
        model: PredictedDice | None,
        output_dir: str | Path,
        output_ext: str = ".nii.gz",
        save_uncertainty: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys)
        self.organs = tuple(organs)
        self.priors_file = Path(priors_file)
        self.model = model
        self.output_dir = Path(output_dir)
        self.output_ext = output_ext
        self.save_uncertainty = save_uncertainty

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the files and return the data unchanged.

        Raises:
            ValueError: where there are no fitted priors, or labels come without soft Dice or, if needed, entropy.
        """
        result = dict(data)
        prior = self._volume_prior
        for key in self.key_iterator(result):
            tensor = result[key]
            scan, affine = tensor.meta["filename_or_obj"], np.asarray(tensor.affine, dtype=np.float64)
            soft_dice, agreement = read_soft_dice(tensor), tensor.meta.get(AGREEMENT)
            channels = tensor.as_tensor().cpu().numpy()
            features = {}
            for number, organ in enumerate(self.organs):
                mask = channels[0] == number + 1
                described = organ_features(mask, soft_dice[number])
                described["volume_z"] = volume_z(Volume(mask, affine), prior, organ)
                if agreement is not None:
                    described["agreement"] = float(agreement[number])
                features[organ] = described
            quality: dict[str, Any] = {"case": output_name(scan)}
            if self.model is not None:
                quality["predicted_dice"] = {organ: self.model.predict(features[organ]) for organ in self.organs}
            write_json({**quality, "features": features}, quality_file(self.output_dir, scan))
            if self.save_uncertainty:
                if len(channels) < 2:
                    raise ValueError(f"{scan}: uncertainty is asked for, but labels come without entropy")
                name = f"{output_name(scan)}_{UNCERTAINTY_POSTFIX}{self.output_ext}"
                entropy = channels[1].astype(np.float32) / ENTROPY_STEPS
                write_volume(Volume(entropy, affine), self.output_dir / name)
        return result

    @cached_property
    def _volume_prior(self) -> VolumePrior | None:
        return PriorSet.load(self.priors_file).priors.get(VolumePrior.name)


def organ_features(mask: np.ndarray, soft_dice: float) -> dict[str, float]:
    """Return what tells of the quality of an organ's mask (D, H, W).

    Returns:
        `voxels` of the mask; `soft_dice`, as given (see `KeepAssessedLabels`); `thinness`, the number of the mask's
        outermost voxels and of those that touch it for each voxel of the mask.
    """
    voxels = int(mask.sum())
    if not voxels:
        return {"voxels": 0, "soft_dice": 0.0, "thinness": 0.0}
    around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in mask_box(mask))
    padded = np.pad(mask[around], 1)
    shell = (binary_dilation(padded) & ~binary_erosion(padded, border_value=0))[1:-1, 1:-1, 1:-1]
    return {"voxels": voxels, "soft_dice": soft_dice, "thinness": float(shell.sum() / voxels)}


def volume_z(mask: Volume, prior: VolumePrior | None, organ: str) -> float:
    """Return how many standard deviations an organ's volume is from what the prior expects.

    0 where that says nothing: the prior does not know the organ, there is no mask, or a small organ is cut by the scan.
    """
    voxels = int(mask.array.sum())
    if prior is None or organ not in prior.organs_ or not voxels:
        return 0.0
    cumulative = float(prior.organs_[organ].student.cdf(math.log(voxels * mask.voxel_volume_ml)))
    z = float(norm.ppf(min(max(cumulative, 1e-6), 1 - 1e-6)))
    return 0.0 if z < 0 and touches_edge(mask.array) else z


def quality_file(output_dir: str | Path, scan: str | Path) -> Path:
    """Return where `AssessQualityd` writes what it says of the mask of a scan."""
    return case_file(output_dir, scan, QUALITY_SUFFIX)


def list_quality(folder: str | Path, cases: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Return what `AssessQualityd` said of the masks of a folder, those that look worst first.

    Args:
        folder: folder of masks.
        cases: names of the masks to list; all by default.

    Returns:
        `case`, `mean_predicted_dice` over organs, `predicted_dice` by organ, and `features` by organ. Files without a
        prediction are left out.
    """
    found = [json.loads(file.read_text(encoding="utf-8")) for file in find_case_files(folder, QUALITY_SUFFIX)]
    listed = [
        {"case": quality["case"], "mean_predicted_dice": float(np.mean(list(quality["predicted_dice"].values())))}
        | {key: quality[key] for key in ("predicted_dice", "features")}
        for quality in found
        if quality.get("predicted_dice") and (cases is None or quality["case"] in cases)
    ]
    return sorted(listed, key=lambda quality: quality["mean_predicted_dice"])
