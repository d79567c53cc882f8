"""What the exported files of a bundle give and cost beside the bundle itself: Dice, CPU time, size.

    python tools/benchmark_export.py --bundle BUNDLE --data DIR --cohort NAME --limit 30

DIR is a labelled cohort in Decathlon layout; with `--cohort`, the name or file of its manifest, only its development
split is read. Cases that the bundle learnt from are left out. CPU seconds are those of the sliding window alone, in
float32, taken for all networks in one run.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from ablate_priors import choose_cases, scores

from medfm3d.cohorts import Case
from medfm3d.inference import CaseSegmenter, ExportFormat, export_network, read_plan


def main(arguments: list[str] | None = None) -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="adapted bundle")
    parser.add_argument("--data", type=Path, required=True, help="labelled cohort, Decathlon layout")
    parser.add_argument("--cohort", help="name or file of its manifest: only its development split is read")
    parser.add_argument("--limit", type=int, help="cases at most")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch and ONNX Runtime")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cases = choose_cases(options, read_plan(options.bundle).organs)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, file in _files(options.bundle, work).items():
            rows.append(_row(options.bundle, name, file, cases, work / name.replace(" ", "_")))
            print(_line(rows[-1]), flush=True)
    print(f"{len(cases)} cases, {options.threads} threads")
    if options.json is not None:
        options.json.write_text(json.dumps({"cases": len(cases), "rows": rows}, indent=2) + "\n", encoding="utf-8")


def _files(bundle: Path, work: Path) -> dict[str, Path | None]:
    """Return what is compared: the bundle's own network (None), and the files made of it."""
    files: dict[str, Path | None] = {"PyTorch": None}
    for name, int8 in {"ONNX": False, "ONNX int8": True}.items():
        files[name] = work / f"{name.replace(' ', '_')}.onnx"
        told = export_network(bundle, files[name], ExportFormat.ONNX, int8=int8)
        print(f"{name}: logits differ by {told['largest_difference']:.1e} at most", flush=True)
    return files


def _row(bundle: Path, name: str, file: Path | None, cases: list[Case], masks: Path) -> dict[str, object]:
    values = {"datalist": [], "device": "cpu", "output_dir": str(masks), "network_def#precision": "float32"}
    segmenter = CaseSegmenter(bundle, values | ({} if file is None else {"onnx_file": str(file)}))
    cpu_s = 0.0
    for case in cases:
        batch = segmenter.read(case.image)
        started = time.process_time()
        batch = segmenter.infer(batch)
        cpu_s += time.process_time() - started
        segmenter.write(batch)
    size = (file or bundle / "models" / "model.pt").stat().st_size
    dice = scores(masks, cases, segmenter.plan.organs)["dice"]
    return {"network": name, "dice": dice, "cpu_s_a_case": cpu_s / len(cases), "size_mb": size / 1e6}


def _line(row: dict[str, object]) -> str:
    return f"| {row['network']} | {row['dice']:.4f} | {row['cpu_s_a_case']:.2f} | {row['size_mb']:.1f} |"


if __name__ == "__main__":
    main()
