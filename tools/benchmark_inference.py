"""Sliding-window inference: medfm3d's streaming against MONAI's inferers and nnU-Net's predictor, in one run.

The same network (a light convolutional one with the named number of classes, or a segmenter of medfm3d), the same
volume, windows, overlap and Gaussian blending for all, on the CPU. Each measurement is a process of its own, pinned to
as many cores as it has threads, so that peak memory is its own. Its result is the label of each voxel: what the engines
return is reduced to that, which counts. `agreement` is the share of voxels whose labels equal those of the first engine
that had room. nnU-Net spaces its windows evenly; where their number differs from ours, so do the labels.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from fewshot_benchmark.clock import peak_memory_mb
from monai.inferers import SlidingWindowInferer, SlidingWindowInfererAdapt
from torch import Tensor, nn

from medfm3d.inference import StreamingInferer

ENGINES = ("monai", "monai-adapt", "nnunet", "medfm3d", "medfm3d-fp16")  # in this order: ratios are over MONAI


def main() -> None:
    """Measure everything, print a line for each and write results and plot."""
    options = parse_arguments()
    if options.one is not None:
        print(json.dumps(measure(json.loads(options.one))))
        return
    rows = []
    for shape in options.shapes.split(","):
        for classes in map(int, options.classes.split(",")):
            rows += compare(options, [int(side) for side in shape.split("x")], classes)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "inference.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        draw(rows, options.output / "inference.png")


def compare(options: argparse.Namespace, shape: list[int], classes: int) -> list[dict[str, Any]]:
    """Measure all engines on a volume and print them against MONAI's plain inferer."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for engine in options.engines.split(","):
            order = {
                **{name: getattr(options, name) for name in ("window", "overlap", "network", "threads", "memory_gb")},
                "engine": engine,
                "shape": shape,
                "classes": classes,
                "labels": str(Path(folder) / f"{engine}.npy"),
            }
            command = [sys.executable, __file__, "--one", json.dumps(order)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "CUDA_VISIBLE_DEVICES": ""}
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            row = {**order, "status": "killed"}
            if done.returncode == 0:
                row |= json.loads(done.stdout.splitlines()[-1])
            elif done.returncode > 0:
                row["status"] = done.stderr.strip().splitlines()[-1]
            rows.append(row)
            first = next((one for one in rows if one["status"] == "done"), None)
            if row["status"] == "done":
                row["agreement"] = float((np.load(row["labels"]) == np.load(first["labels"])).mean())
            print_row(row, next((one for one in rows if one["engine"] == "monai" and one["status"] == "done"), None))
    return rows


def measure(order: dict[str, Any]) -> dict[str, Any]:
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


def engine(name: str, network: nn.Module, window: int, overlap: float) -> Callable[[Tensor], Tensor]:
    """Return a function from a volume (1, 1, D, H, W) to labels (D, H, W)."""
    settings = {"roi_size": (window,) * 3, "sw_batch_size": 1, "overlap": overlap, "mode": "gaussian"}
    if name in ("medfm3d", "medfm3d-fp16"):
        dtype = torch.float16 if name.endswith("fp16") else torch.float32
        streaming = StreamingInferer(**settings, accumulate=dtype)
        return lambda volume: streaming(volume, network)[0, 0]
    if name in ("monai", "monai-adapt"):
        inferer = (SlidingWindowInferer if name == "monai" else SlidingWindowInfererAdapt)(**settings)
        return lambda volume: inferer(volume, network).argmax(dim=1)[0]
    if name == "nnunet":
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(
            tile_step_size=1 - overlap, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.network = network
        predictor.configuration_manager = SimpleNamespace(patch_size=[window] * 3)
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=network.classes)
        predictor.allowed_mirroring_axes = None
        return lambda volume: predictor.predict_sliding_window_return_logits(volume[0]).float().argmax(dim=0)
    raise ValueError(f"unknown engine {name!r}: choose from {', '.join(ENGINES)}")


class Counted(nn.Module):
    """A network that counts the windows it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.windows = network, 0
        self.classes = int(network(torch.zeros(1, 1, 16, 16, 16)).shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's scores."""
        self.windows += len(x)
        return self.network(x)


def build_network(name: str, classes: int) -> nn.Module:
    """Return "light", 2 convolutions at stride 4 and a projection to the classes, or "segmenter", medfm3d's."""
    if name == "segmenter":
        from medfm3d.segmentation import Segmenter

        return Segmenter([f"organ {number}" for number in range(1, classes)], "vit_tiny", "decoder").eval()
    return nn.Sequential(
        nn.Conv3d(1, 16, 4, stride=4),
        nn.ReLU(),
        nn.Conv3d(16, 16, 3, padding=1),
        nn.Upsample(scale_factor=4, mode="trilinear"),
        nn.Conv3d(16, classes, 1),
    )


def print_row(row: dict[str, Any], monai: dict[str, Any] | None) -> None:
    """Print what was measured."""
    name = f"{'x'.join(map(str, row['shape']))} {row['classes']:>4} classes {row['engine']:<13}"
    if row["status"] != "done":
        print(f"{name} {row['status']}", flush=True)
        return
    said = f"{row['cpu_s']:8.1f} CPU s {row['wall_s']:8.1f} s {row['peak_gb']:7.2f} GiB {row['windows']:5} windows"
    ratios = ""
    if monai:
        time_ratio, memory_ratio = row["cpu_s"] / monai["cpu_s"], row["peak_gb"] / monai["peak_gb"]
        ratios = f"  time {time_ratio:.2f}, memory {memory_ratio:.2f} of MONAI's"
    print(f"{name}{said}  agreement {row['agreement']:.5f}{ratios}", flush=True)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw peak memory and CPU seconds over scores in the whole volume (voxels times classes)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key, title in zip(
        figure.subplots(1, 2), ("peak_gb", "cpu_s"), ("Peak memory (GiB)", "CPU seconds"), strict=True
    ):
        for name in dict.fromkeys(row["engine"] for row in rows):
            done = [row for row in rows if row["engine"] == name and row["status"] == "done"]
            points = sorted((np.prod(row["shape"]) * row["classes"] / 1e9, row[key]) for row in done)
            axes.plot(*zip(*points, strict=True) if points else ((), ()), marker="o", label=name)
        axes.set(xlabel="Voxels x classes (1e9)", title=title, xscale="log", yscale="log")
        axes.grid(linewidth=0.4)
        axes.legend(frameon=False)
    figure.savefig(file, dpi=150)


def parse_arguments() -> argparse.Namespace:
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
    parser.add_argument("--output", type=Path, help="folder for inference.json and inference.png")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
