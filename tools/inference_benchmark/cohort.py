"""An adapted bundle over the development cases of a cohort: all windows, without air, and in organ boxes."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ablate_priors import choose_cases, scores
from fewshot_benchmark.clock import peak_memory_mb
from monai.data import MetaTensor

from medfm3d.inference import BoxedInferer, CaseSegmenter, read_plan, require_values
from medfm3d.inference.search_region import SearchRegion
from medfm3d.volumes import Volume, read_label

MODES: dict[str, dict[str, Any]] = {
    "all windows": {"boxed": False, "skip_air": False},
    "without air": {"boxed": False, "skip_air": True},
    "box by prior": {"boxed": True, "box_search": "prior"},
    "box by coarse pass": {"boxed": True, "box_search": "coarse"},
    "box by both": {"boxed": True, "box_search": "both"},
}


def modes_of(bundle: Path) -> list[str]:
    """Return the modes that say something of a bundle: air is told in CT alone.

    Raises:
        BundleError: if it was written by a version that could not choose how boxes are found.
    """
    require_values(bundle, "inference", ["boxed", "box_search", "skip_air"])
    return [name for name in MODES if name != "without air" or read_plan(bundle).modality == "CT"]


def measure_mode(order: Mapping[str, Any]) -> dict[str, Any]:
    """Segment the cases in one mode and write the masks.

    Args:
        order: `bundle`, `data`, `cohort`, `limit`, as of the command line; `mode`; `masks`, a folder; `threads`.

    Returns:
        Means over cases: `infer_s`, CPU seconds of the inferer; `case_s`, those with reading and writing; `windows`;
        `share` of the scan that was run; `recall`, the share of the organs' voxels in the box before it grows;
        `least_recall` of a case. And `cases`, their number, and `peak_gb`, the memory beyond that at the start.
    """
    torch.set_num_threads(order["threads"])
    bundle, before = Path(order["bundle"]), peak_memory_mb()
    values = {**MODES[order["mode"]], "output_dir": order["masks"], "device": "cpu"}
    segmenter = CaseSegmenter(bundle, values)
    cases = cases_of(order)
    run = []
    segmenter.network.register_forward_pre_hook(lambda _, inputs: run.append(len(inputs[0])))
    rows = []
    for case in cases:
        run.clear()
        started = time.process_time()
        batch = segmenter.read(case.image)
        read = time.process_time()
        segmenter.infer(batch)
        inferred = time.process_time()
        share, windows = batch["image"].meta.get("searched_share", 1.0), sum(run)
        segmenter.write(batch)
        ended = time.process_time()
        rows.append([inferred - read, ended - started, windows, share])
        recall = 1.0
        if isinstance(segmenter.inferer, BoxedInferer):
            scan = segmenter.read(case.image)["image"]
            box = segmenter.inferer.region(scan, segmenter.network)
            recall = box_recall(scan, box, read_label(case.label), list(segmenter.plan.organs.values()))
        rows[-1].append(recall)
    means = dict(zip(("infer_s", "case_s", "windows", "share", "recall"), np.mean(rows, axis=0).tolist(), strict=True))
    least = min(row[-1] for row in rows)
    peak_gb = (peak_memory_mb() - before) / 1024
    return {"status": "done", "cases": len(rows), **means, "least_recall": least, "peak_gb": peak_gb}


def cases_of(order: Mapping[str, Any]) -> list[Any]:
    """Return the development cases that the bundle did not learn from."""
    options = SimpleNamespace(**{key: order[key] for key in ("cohort", "limit")})
    options.bundle, options.data = Path(order["bundle"]), Path(order["data"])
    return choose_cases(options, read_plan(options.bundle).organs)


def box_recall(scan: MetaTensor, box: SearchRegion, label: Volume, numbers: Sequence[int]) -> float:
    """Return the share of the outlined voxels whose centre lies in a box of voxels of a scan (1, 1, D, H, W)."""
    voxels = np.argwhere(np.isin(label.array, numbers))
    if not len(voxels):
        return 1.0
    affine = np.asarray(scan.affine, dtype=float).reshape(-1, 4, 4)[0]
    to_scan = np.linalg.inv(affine) @ label.affine
    places = voxels @ to_scan[:3, :3].T + to_scan[:3, 3]
    low, high = np.array([[span.start - 0.5, span.stop - 0.5] for span in box]).T
    # Beyond the outermost voxels of a scan nothing is cut off by a box that ends with it.
    low = np.where(low <= -0.5, -np.inf, low)
    high = np.where(high >= np.array(scan.shape[2:]) - 0.5, np.inf, high)
    return float(((places >= low) & (places <= high)).all(axis=1).mean())


def add_scores(row: dict[str, Any], order: Mapping[str, Any]) -> None:
    """Add the mean Dice and HD95 of a mode's masks to what was measured."""
    found = scores(Path(order["masks"]), cases_of(order), read_plan(order["bundle"]).organs)
    row |= {key: found[key] for key in ("dice", "hd95_mm")}


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return modes as a Markdown table; losses and ratios are against all windows."""
    first = rows[0]
    lines = [
        "| searched | windows | box recall, mean (least) | Dice | loss | HD95 mm | CPU s | ratio | CPU s with files "
        "| ratio | peak GiB |",
        "|" + " --- |" * 11,
    ]
    for row in rows:
        distance = "-" if row["hd95_mm"] is None else f"{row['hd95_mm']:.1f}"
        lines.append(
            f"| {row['mode']} | {row['windows']:.1f} | {row['recall']:.4f} ({row['least_recall']:.3f}) "
            f"| {row['dice']:.4f} | {first['dice'] - row['dice']:+.4f} | {distance} "
            f"| {row['infer_s']:.2f} | {row['infer_s'] / first['infer_s']:.2f} "
            f"| {row['case_s']:.2f} | {row['case_s'] / first['case_s']:.2f} | {row['peak_gb']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def write(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write rows and table to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cohort.json").write_text(json.dumps(list(rows), indent=2) + "\n", encoding="utf-8")
    (folder / "cohort.md").write_text(as_table(rows), encoding="utf-8")
