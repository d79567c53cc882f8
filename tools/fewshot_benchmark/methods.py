"""The method that a job names, ready to run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from fewshot_benchmark.job import PEERS, Job
from fewshot_benchmark.selection import Selection
from medfm3d.adaptation import plan_adaptation
from medfm3d.cli.adapt import Method as AdaptMethod
from medfm3d.cohorts import Case
from medfm3d.volumes import read_volume, reorient

METHODS = tuple(method.value for method in AdaptMethod)  # those of `medfm3d adapt`, its policy "auto" included


class Method(Protocol):
    """Learns from a support set and then segments other cases."""

    def adapt(self, support: Sequence[Case]) -> dict[str, Any]:
        """Learn; returns what was done, with the number of `trained_parameters`."""

    def segment(self, cases: Sequence[Case], output: Path) -> None:
        """Write a mask of each case, with ids as in the label files, on the scan's grid or that grid in RAS."""


def create_method(job: Job, selection: Selection, folder: Path) -> Method:
    """Construct a job's method. What a peer imports is imported here, so that it is no part of its time.

    Raises:
        ValueError: if there is no such method, or a peer has no budget.
    """
    if not job.is_peer:
        if job.method not in METHODS:
            raise ValueError(f"no method {job.method!r}: medfm3d has {', '.join(METHODS)}; peers: {', '.join(PEERS)}")
        from fewshot_benchmark.medfm3d_method import Medfm3dMethod

        return Medfm3dMethod(folder, job, selection)
    if job.budget_s is None:
        raise ValueError(f"{job.method}: has no length of its own on a CPU; give --budget-s")
    plan = plan_adaptation(selection.support, selection.organs)
    if job.method == "monai-swinunetr":
        from fewshot_benchmark.swinunetr import SwinUnetr

        scans = [reorient(read_volume(case.image)) for case in selection.support]
        sizes_mm = [[n * size for n, size in zip(scan.shape, scan.spacing_mm, strict=True)] for scan in scans]
        return SwinUnetr(plan, sizes_mm, job.seed, job.budget_s)
    from fewshot_benchmark.nnunet import NnUNet

    mirroring = job.method != "nnunet-nomirroring"
    return NnUNet(folder / "nnunet", selection.organs, plan.modality, job.seed, job.budget_s, mirroring)
