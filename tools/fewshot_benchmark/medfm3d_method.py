"""An adaptation method of medfm3d, through its template bundle."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewshot_benchmark.job import Job
from fewshot_benchmark.selection import Selection
from medfm3d.cli.adapt import TEMPLATE, run_adaptation
from medfm3d.cli.segment import require_all, run_segmentation
from medfm3d.cohorts import Case
from medfm3d.encoders import read_header
from medfm3d.inference import bundle_template

SEGMENT = "segment."


class Medfm3dMethod:
    """A method of medfm3d, run as `medfm3d adapt` and `medfm3d segment` run it.

    Args:
        folder: where the bundle is written.
        job: names the method and its settings.
        selection: the run's organs, support set and unlabelled scans.

    Raises:
        ValueError: if a setting names nothing in the workflow's config.
    """

    def __init__(self, folder: Path, job: Job, selection: Selection) -> None:
        self.bundle, self.job, self.selection = folder / "bundle", job, selection
        self.inference_settings = {
            key.removeprefix(SEGMENT): value for key, value in job.settings.items() if key.startswith(SEGMENT)
        }
        self.train_settings = {key: value for key, value in job.settings.items() if not key.startswith(SEGMENT)}
        _check_settings("train", self.train_settings)
        _check_settings("inference", self.inference_settings)

    def adapt(self, support: Sequence[Case]) -> dict[str, Any]:
        """Adapt to the support set, with the unlabelled scans at hand; returns what was done."""
        result = run_adaptation(
            self.selection.adaptation_cohort(self.job.cohort),
            self.selection.organs,
            self.bundle,
            names=[case.name for case in support],
            method=self.job.method,
            device="cpu",
            seed=self.job.seed,
            config=self.train_settings,
        )
        provenance = {"encoder": result["encoder_provenance"]}
        decoder = self.bundle / "models" / "decoder.safetensors"
        if decoder.is_file():
            provenance["decoder"] = read_header(decoder)["provenance"]
        return {
            "trained_parameters": result["trained_parameters"],
            "iterations": result["iterations"],
            "method": result["method"],
            "plan": result["plan"],
            "unlabelled_scans_offered": len(self.selection.unlabelled),
            "weights": provenance,
            "labels_note": "; ".join(_note(part, values) for part, values in provenance.items()),
        }

    def segment(self, cases: Sequence[Case], output: Path) -> None:
        """Segment cases; masks are on the scans' own grids."""
        images = [case.image for case in cases]
        segmented = run_segmentation(
            self.bundle,
            images[0].parent,
            output,
            inputs=images,
            device="cpu",
            seed=self.job.seed,
            config=self.inference_settings,
        )
        require_all(segmented)


def _note(part: str, provenance: Any) -> str:
    """Say what shipped weights had seen before."""
    data = provenance.get("data") if isinstance(provenance, Mapping) else None
    return f"{part} weights pretrained on {data}" if data else f"{part} weights of unstated origin"


def _check_settings(workflow: str, settings: Mapping[str, Any]) -> None:
    path = bundle_template(TEMPLATE) / "configs" / f"{workflow}.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    for key in settings:
        if key.split("#")[0] not in known:  # MONAI would take the value and do nothing with it
            raise ValueError(f"{path}: has no {key.split('#')[0]!r}; it has {', '.join(known)}")
