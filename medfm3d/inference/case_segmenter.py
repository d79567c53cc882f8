"""A bundle that is opened once and segments one scan after the other, in three steps that can overlap."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import decollate_batch, list_data_collate

from medfm3d.adaptation import AdaptationPlan
from medfm3d.inference.bundle_reader import read_priors
from medfm3d.inference.bundle_writer import BundleError
from medfm3d.inference.onnx_network import OnnxNetwork
from medfm3d.inference.remarks import case_remarks
from medfm3d.inference.workflow import open_workflow
from medfm3d.volumes import SaveVolumed, Volume, VolumeError
from medfm3d.volumes.errors import causes

WEIGHTS = "models/model.pt"
_PARTS = ("compute_device", "plan", "preprocessing", "inferer", "postprocessing", "network")


class CaseSegmenter:
    """The parts of a bundle's inference workflow, put together for one scan at a time.

    `read`, `infer` and `write` do what the workflow's evaluator does with a batch of one. Each of them is meant for one
    thread at a time, but the three may go on side by side, with different scans.

    Args:
        bundle: an adapted bundle.
        values: config values that replace those of its inference workflow, by id; `output_dir` and `device` among them.

    Raises:
        BundleError: if the bundle lacks its configs or weights, or the weights do not fit its network.
    """

    def __init__(self, bundle: str | Path, values: Mapping[str, Any]) -> None:
        self.bundle = Path(bundle)
        weights = self.bundle / WEIGHTS
        if not weights.is_file():
            raise BundleError(f"{weights}: no such file; {bundle} is not an adapted bundle")
        parts = self._parts(values)
        self.device: torch.device = parts["compute_device"]
        self.plan: AdaptationPlan = parts["plan"]
        self.preprocessing, self.postprocessing = parts["preprocessing"], parts["postprocessing"]
        self.inferer = parts["inferer"]
        self.network = parts["network"].eval()
        self.priors = read_priors(self.bundle)
        (self.saver,) = (part for part in self.postprocessing.transforms if isinstance(part, SaveVolumed))
        if not isinstance(self.network, OnnxNetwork):  # which holds its weights, and checked that they are these
            self._load_weights(weights)

    def _parts(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the inference workflow's config composes."""
        workflow = open_workflow(self.bundle, "inference", values)
        config = self.bundle / "configs" / "inference.json"
        if absent := [name for name in _PARTS if name not in workflow.parser]:
            raise BundleError(f"{config}: lacks {', '.join(absent)}; adapt again")
        try:
            return {name: workflow.parser.get_parsed_content(name) for name in _PARTS}
        except Exception as error:  # a config is code, which may raise anything
            chain = causes(error)
            if ours := [one for one in chain if isinstance(one, BundleError | VolumeError)]:
                raise ours[0] from ours[0].__cause__  # which says what is wrong, and where
            reason = chain[-1]
            raise BundleError(f"{config}: cannot be set up ({reason}); correct the file, or adapt again") from error

    def _load_weights(self, file: Path) -> None:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            self.network.load_state_dict(state)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise BundleError(f"{file}: holds no weights of this bundle's network ({reason}); adapt again") from error
        if not all(value.isfinite().all() for value in state.values() if isinstance(value, torch.Tensor)):
            raise BundleError(f"{file}: holds weights that are NaN or infinite; adapt again")

    def read(self, scan: str | Path) -> dict[str, Any]:
        """Return a scan, read and preprocessed, as a batch of one; raises VolumeError for an unusable file."""
        self.saver.check_scan(scan)
        return list_data_collate([self.preprocessing({"image": os.fspath(scan)})])

    @torch.no_grad()
    def infer(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch with what the inferer says as `pred`."""
        batch["pred"] = self.inferer(batch["image"].to(self.device), self.network)
        return batch

    def write(self, batch: dict[str, Any]) -> tuple[Path, dict[str, float], list[dict[str, Any]]]:
        """Write the mask, and what belongs to it.

        Returns:
            Its file, each organ's volume in mL, and what surprises the bundle's priors, as `list_remarks` gives it.
        """
        (item,) = decollate_batch(batch)
        mask = self.postprocessing(item)["pred"]
        volume = Volume(mask.as_tensor()[0].cpu().numpy(), np.asarray(mask.affine))
        counts = np.bincount(volume.array.ravel(), minlength=1 + max(self.plan.organs.values()))
        volumes_ml = {
            organ: float(counts[number]) * volume.voxel_volume_ml for organ, number in self.plan.organs.items()
        }
        file, scan = self.saver.written[-1], mask.meta["filename_or_obj"]
        remarks = case_remarks(
            replace(volume, source=file), scan, self.plan.organs, self.priors, modality=self.plan.modality
        )
        return file, volumes_ml, remarks
