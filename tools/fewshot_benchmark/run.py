"""A run from its first scan to its scores."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fewshot_benchmark.clock import peak_memory_mb, timed
from fewshot_benchmark.job import Job
from fewshot_benchmark.methods import create_method
from fewshot_benchmark.results import describe
from fewshot_benchmark.scoring import score_masks
from fewshot_benchmark.selection import select_cases


def make_run(job: Job, work: Path, keep: bool = False) -> dict[str, Any]:
    """Adapt, segment and score; returns the run's result.

    What an interrupted run of nnU-Net left is taken up; anything else starts again.

    Args:
        job: the run.
        work: folder of all results.
        keep: whether models stay; masks always do.

    Raises:
        Exception: whatever the method raises.
    """
    folder = job.folder(work)
    masks = folder / "masks"
    if not job.method.startswith("nnunet"):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(masks, ignore_errors=True)
    masks.mkdir(parents=True)
    selection = select_cases(job)
    method = create_method(job, selection, folder)
    with timed() as adaptation:
        adapted = method.adapt(selection.support)
    with timed() as segmentation:
        method.segment(selection.scored, masks)
    memory_mb = peak_memory_mb()
    took = asdict(adaptation)
    if adapted.get("resumed"):  # part of it went by in an earlier process; nobody knows how long that was on the clock
        took = {"wall_s": None, "cpu_s": adapted["adaptation_cpu_s"]}
    scores, missing = score_masks(masks, selection)
    if not keep:
        for path in folder.iterdir():
            if path != masks:
                shutil.rmtree(path)
    return {
        **describe(job),
        "status": "done",
        "organs": selection.organs,
        "support": [case.name for case in selection.support],
        "scored": [case.name for case in selection.scored],
        "labels_used": len(selection.support),
        "labels_note": adapted.pop("labels_note", "trained from scratch"),
        "adaptation": took,
        "segmentation": asdict(segmentation),
        "trained_parameters": adapted.pop("trained_parameters"),
        "peak_memory_mb": memory_mb,
        "without_mask": missing,
        "scores": [asdict(score) for score in scores],
        "details": adapted,
    }
