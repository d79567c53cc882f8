"""Optional refinement of a segmenter on each query under the size prior, and what it changed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from torch import Tensor

from medfm3d.inference.bundle_writer import BundleError
from medfm3d.inference.case_files import case_file
from medfm3d.inference.size_refinement import SizeRefinement, size_penalty
from medfm3d.priors import PriorSet, VolumePrior, touches_edge
from medfm3d.segmentation import Segmenter
from medfm3d.volumes import output_name, plain_tensor, write_json

SUFFIX = "_transductive.json"


@dataclass(frozen=True)
class OrganRefinement:
    """What refinement did to one organ of a query.

    Attributes:
        organ: its name.
        before_ml: its volume in the mask without refinement, at the network's voxel size.
        after_ml: its volume with it.
        expected_ml: median of the support set's volume prior, or None if that does not know the organ.
        note: why the organ was or was not under the constraint.
    """

    organ: str
    before_ml: float
    after_ml: float
    expected_ml: float | None
    note: str


class TransductiveInferer(Inferer):
    """Run an inferer, refine the segmenter on the query where organs have an unlikely size, run it again, and undo.

    Few weights are refined, those that a segmenter's method names in `Adapter.refined_parameters`: of `box-adapter` the
    adapter and the classifier; of `linear-probe` the classifier; else the decoder's last step and the
    classifier. One query is one example with one number known of each organ, which the many weights in front could
    satisfy by destroying what they have learnt; the last ones can only move how the features that are there are
    weighed. They are also what needs no gradient through the encoder, so that a step costs little on a laptop.

    An organ takes part if the mask has it, the prior knows it, and it does not touch the scan's faces: the part of an
    organ that the field of view cuts off is not missing. Volumes are compared in mL. The weights are as they were when
    a call ends, also by an error. For each scan NAME a file NAME_transductive.json says what was done.

    Args:
        inferer: MONAI inferer that answers, such as a `SlidingWindowInferer`.
        priors_file: the bundle's fitted priors.
        organs: names in channel order.
        window: sides of the windows that are refined on, in voxels.
        spacing_mm: voxel size of the network's input.
        output_dir: folder of the files.
        steps: gradient steps at most; fewer if all organs come within 30 % of what is expected.
        learning_rate: of Adam.
    """

    def __init__(
        self,
        inferer: Inferer,
        priors_file: str | Path,
        organs: Sequence[str],
        window: Sequence[int],
        spacing_mm: Sequence[float],
        output_dir: str | Path,
        steps: int = 20,
        learning_rate: float = 2e-3,
    ) -> None:
        super().__init__()
        self.inferer = inferer
        self.priors_file = Path(priors_file)
        self.organs = tuple(organs)
        self.window = tuple(window)
        self.voxel_volume_ml = float(np.prod(spacing_mm)) / 1000
        self.output_dir = Path(output_dir)
        self.steps = steps
        self.learning_rate = learning_rate

    def __call__(self, inputs: Tensor, network: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """Return logits (1, 1 + organs, D, H, W) of a scan (1, C, D, H, W).

        Raises:
            ValueError: if there is more than one scan, its file is not known, or the network is no segmenter.
            BundleError: if the bundle has no volume prior.
        """
        scan = _file_of(inputs)
        # A network compiled by TensorRT is still a Segmenter, but computes with the weights it was compiled with.
        if not isinstance(network, Segmenter) or hasattr(network, "_trt_compiler"):
            raise ValueError(
                "transductive refinement changes the network's weights: it needs a Segmenter that computes with its, "
                f"got {type(network).__name__}; leave out refinement, or what exported or compiled the network"
            )
        logits = self.inferer(inputs, network, *args, **kwargs)
        before_ml = self._mask_volumes(logits)
        expected, notes = self._constraints(logits)
        steps = 0
        if expected:
            refinement = SizeRefinement(
                network, plain_tensor(inputs), logits.softmax(dim=1), self.window, self.voxel_volume_ml
            )
            try:
                steps = refinement.run(expected, steps=self.steps, learning_rate=self.learning_rate)
                if steps:
                    logits = self.inferer(inputs, network, *args, **kwargs)
            finally:
                refinement.restore()
        self._write(scan, steps, before_ml, self._mask_volumes(logits), notes)
        return logits

    def _constraints(self, logits: Tensor) -> tuple[dict[int, float], list[tuple[float | None, str]]]:
        """Return the expected volume of each organ under the constraint; and for all, what is expected and a note."""
        prior = self._volume_prior
        mask = logits.argmax(dim=1)[0].cpu().numpy()
        expected: dict[int, float] = {}
        notes: list[tuple[float | None, str]] = []
        for index, organ in enumerate(self.organs):
            distribution = prior.organs_.get(organ)
            volume = None if distribution is None else float(np.exp(distribution.location))
            found = mask == index + 1
            if volume is None:
                notes.append((None, "left alone: the prior does not know its volume"))
            elif not found.any():
                notes.append((volume, "left alone: not found"))
            elif touches_edge(found):
                notes.append((volume, "left alone: cut by the edge of the scan"))
            else:
                expected[index] = volume
                size = torch.tensor([float(found.sum()) * self.voxel_volume_ml])
                fits = size_penalty(size, torch.tensor([volume])) == 0
                notes.append((volume, "of the expected size" if fits else "not of the expected size"))
        return expected, notes

    @cached_property
    def _volume_prior(self) -> VolumePrior:
        prior = PriorSet.load(self.priors_file).priors.get(VolumePrior.name)
        if prior is None:
            raise BundleError(f"{self.priors_file}: says nothing of volumes; adapt again, or segment without this")
        return prior

    def _mask_volumes(self, logits: Tensor) -> list[float]:
        counts = torch.bincount(logits.argmax(dim=1).flatten(), minlength=1 + len(self.organs))
        return [float(count) * self.voxel_volume_ml for count in counts[1:]]

    def _write(
        self, scan: str, steps: int, before: list[float], after: list[float], notes: list[tuple[float | None, str]]
    ) -> None:
        organs = [
            asdict(OrganRefinement(organ, old, new, expected, note))
            for organ, old, new, (expected, note) in zip(self.organs, before, after, notes, strict=True)
        ]
        write_json({"steps": steps, "organs": organs}, refinement_file(self.output_dir, scan))


def refinement_file(output_dir: str | Path, scan: str | Path) -> Path:
    """Return where `TransductiveInferer` writes what it did to a scan."""
    return case_file(output_dir, scan, SUFFIX)


def list_refinements(output_dir: str | Path, scans: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return what `TransductiveInferer` did: `case`, `steps`, and `organs` with the fields of `OrganRefinement`."""
    return [
        {"case": output_name(scan), **json.loads(refinement_file(output_dir, scan).read_text(encoding="utf-8"))}
        for scan in scans
    ]


def _file_of(inputs: Tensor) -> str:
    if inputs.shape[0] != 1:
        raise ValueError(f"transductive refinement takes one scan at a time, got {inputs.shape[0]}")
    file = getattr(inputs, "meta", {}).get("filename_or_obj")
    file = file[0] if isinstance(file, list | tuple) else file
    if not file:
        raise ValueError("transductive refinement needs to know the scan's file: load it by LoadVolumed")
    return str(file)
