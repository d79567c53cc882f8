"""Sliding-window inference: medfm3d's streaming against MONAI's inferers and nnU-Net's predictor, in one run.

    python tools/benchmark_inference.py --shapes 512x512x300 --classes 2,14,117 --output OUT
    python tools/benchmark_inference.py --bundle BUNDLE --data DIR --cohort openkbp_headneck --output OUT

The first compares engines: the same network (a light convolutional one with the named number of classes, or a
segmenter of medfm3d), the same volume, windows, overlap and Gaussian blending for all, on the CPU. Its result is the
label of each voxel: what the engines return is reduced to that, which counts. `agreement` is the share of voxels whose
labels equal those of the first engine that had room. nnU-Net spaces its windows evenly; where their number differs from
ours, so do the labels. Runs with the same OUT add to its inference.json, inference.md and inference.png.

The second runs an adapted bundle over the development cases of a real cohort: all windows, without air, and in organ
boxes that the location prior, a coarse pass, or both find; into cohort.json and cohort.md.

Each measurement is a process of its own, pinned to as many cores as it has threads, so that peak memory is its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fewshot_benchmark.clock import peak_memory_mb
from inference_benchmark import cohort, growth
from inference_benchmark.engines import ENGINES, Counted, build_network, engine


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything, print a line for each and write results, table and plot."""
    options = parse_arguments(arguments)
    if options.one is not None:
        order = json.loads(options.one)
        print(json.dumps(cohort.measure_mode(order) if "mode" in order else measure(order)))
    elif options.bundle is not None:
        search_cohort(options)
    else:
        compare_engines(options)


def compare_engines(options: argparse.Namespace) -> None:
    """Measure every engine on every volume with every number of classes."""
    rows = []
    for shape in options.shapes.split(","):
        for classes in map(int, options.classes.split(",")):
            rows += compare(options, [int(side) for side in shape.split("x")], classes)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        write_rows(rows, options.output)


def compare(options: argparse.Namespace, shape: list[int], classes: int) -> list[dict[str, Any]]:
    """Measure all engines on a volume and print them against MONAI's plain inferer."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.engines.split(","):
            order = {
                **{key: getattr(options, key) for key in ("window", "overlap", "network", "threads", "memory_gb")},
                "engine": name,
                "shape": shape,
                "classes": classes,
                "labels": str(Path(folder) / f"{name}.npy"),
            }
            row = {**order, **run_alone(order)}
            rows.append(row)
            first = next((one for one in rows if one["status"] == "done"), None)
            if row["status"] == "done":
                own, other = np.load(row["labels"]), np.load(first["labels"])
                row["agreement"] = None if first is row else float((own == other).mean())
            print_row(row, next((one for one in rows if one["engine"] == "monai" and one["status"] == "done"), None))
    return rows


def search_cohort(options: argparse.Namespace) -> None:
    """Measure every mode of search of a bundle over a cohort and print them as a table."""
    if options.data is None:
        raise SystemExit("--bundle is run over a cohort: name its folder by --data, and its manifest by --cohort")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for mode in cohort.modes_of(options.bundle):
            order = {
                **{key: getattr(options, key) for key in ("cohort", "limit", "threads")},
                **{key: str(getattr(options, key)) for key in ("bundle", "data")},
                "mode": mode,
                "masks": str(Path(folder) / mode.replace(" ", "_")),
            }
            row = {**order, **run_alone(order)}
            if row["status"] != "done":
                raise SystemExit(f"{mode}: {row['status']}")
            cohort.add_scores(row, order)
            rows.append(row)
            print(cohort.as_table(rows).splitlines()[-1], flush=True)
    print(f"\n{rows[0]['cases']} cases\n\n{cohort.as_table(rows)}")
    if options.output:
        cohort.write(rows, options.output)


def run_alone(order: Mapping[str, Any]) -> dict[str, Any]:
    """Run one measurement in a process of its own; the status says what became of it."""
    command = [sys.executable, __file__, "--one", json.dumps(order)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(order["threads"]), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    return {"status": done.stderr.strip().splitlines()[-1] if done.returncode > 0 else "killed"}


def measure(order: Mapping[str, Any]) -> dict[str, Any]:
    """Run one engine once; returns seconds, CPU seconds, peak memory beyond that at the start, and windows run."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-order["threads"] :])
    torch.set_num_threads(order["threads"])
    torch.manual_seed(0)
    network, windows = Counted(build_network(order["network"], order["classes"])).eval(), order["window"]
    volume = torch.randn(1, 1, *order["shape"])
    run = engine(order["engine"], network, windows, order["overlap"])
    limit = int(order["memory_gb"] * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    before, started, cpu = peak_memory_mb(), time.perf_counter(), time.process_time()
    try:
        with torch.no_grad():
            labels = run(volume)
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error):
            raise
        return {"status": f"no room in {order['memory_gb']:g} GiB"}
    result = {
        "status": "done",
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "peak_gb": (peak_memory_mb() - before) / 1024,
        "windows": network.windows,
    }
    np.save(order["labels"], labels.numpy().astype(np.uint8))
    return result


def print_row(row: Mapping[str, Any], monai: Mapping[str, Any] | None) -> None:
    """Print what was measured."""
    name = f"{'x'.join(map(str, row['shape']))} {row['classes']:>4} classes {row['engine']:<13}"
    if row["status"] != "done":
        print(f"{name} {row['status']}", flush=True)
        return
    said = f"{row['cpu_s']:8.1f} CPU s {row['wall_s']:8.1f} s {row['peak_gb']:7.2f} GiB {row['windows']:5} windows"
    agreement = "" if row["agreement"] is None else f"  agreement {row['agreement']:.5f}"
    ratios = ""
    if monai:
        time_ratio, memory_ratio = row["cpu_s"] / monai["cpu_s"], row["peak_gb"] / monai["peak_gb"]
        ratios = f"  time {time_ratio:.2f}, memory {memory_ratio:.2f} of MONAI's"
    print(f"{name}{said}{agreement}{ratios}", flush=True)


def write_rows(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Put rows together with those of earlier runs, the same ones replaced, and write them, the table and the plot."""
    file = folder / "inference.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    together = {_key(row): dict(row) for row in [*kept, *rows]}
    found = list(together.values())
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (folder / "inference.md").write_text(growth.as_table(found), encoding="utf-8")
    if any(row["status"] == "done" for row in found):
        growth.draw(found, folder / "inference.png")


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*row["shape"], row["classes"], row["engine"])


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="512x512x300", help="volumes, such as 128x128x75,512x512x300")
    parser.add_argument("--classes", default="2,14,117", help="numbers of classes, background included")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--network", choices=("light", "segmenter"), default="light")
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-gb", type=float, default=18.0, help="an engine that wants more fails, and is said to")
    parser.add_argument("--bundle", type=Path, help="an adapted bundle, to be run over a cohort instead")
    parser.add_argument("--data", type=Path, help="folder of the cohort in Decathlon layout")
    parser.add_argument("--cohort", help="name of its manifest, whose development split is read; without, all cases")
    parser.add_argument("--limit", type=int, help="at most so many cases")
    parser.add_argument("--output", type=Path, help="folder for results, table and plot")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
