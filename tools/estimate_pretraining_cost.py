"""What masked pretraining on OpenMind costs on 8 H100, from operations counted and times measured here.

`--measure FILE` counts the operations of a training step, and the bytes that it keeps for the backward pass, and writes
a JSON file. Both are polynomials of the number of tokens, of degree two, and linear in the number of blocks, which are
all alike: steps of one and of two blocks on three small windows give any encoder and window, exactly. Times are those
of whole steps on the window itself. Without `--measure`, the tables of docs/scaling.md are printed from such a file.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from medfm3d.encoders import ENCODERS, create_encoder
from medfm3d.pretraining import MaskedAutoencoder, TrainingFlops, seeded_generator

MEASURED = Path(__file__).resolve().parents[1] / "docs" / "scaling_measured.json"
DECODER = ("decoder_dim", "decoder_depth", "decoder_heads")
SMALL_SIDES = (32, 48, 64)
VITS = ("vit_tiny", "vit_small", "vit_base", "vit_medium", "vit_large")
VOLUMES = 114_000  # of OpenMind (Wald et al. 2025, "An OpenMind for 3D medical vision self-supervised learning")
DEVICES = 8
PEAK_TFLOPS = 989  # of an H100 SXM, dense bfloat16 (NVIDIA's data sheet)
UTILISATION = (0.2, 0.4)  # assumed: see docs/scaling.md
PASSES = (10, 100, 1000)  # windows of each volume
MEMORY_GB = 80
STORE_OF_FLOAT16 = 0.64  # measured on a head MR after contrast; CT takes less
VOLUME_VOXELS = 240 * 240 * 160  # assumed mean of a head MR at about 1 mm
HOUR_S = 3600


def main() -> None:
    """Measure, or print the tables."""
    arguments = parse_arguments()
    if arguments.measure is not None:
        arguments.measure.write_text(json.dumps(measure(arguments), indent=2) + "\n", encoding="utf-8")
    else:
        print(tables(json.loads(arguments.measured.read_text(encoding="utf-8"))))


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, help="measure, and write this file")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="file to make the tables from")
    parser.add_argument(
        "--loading", type=Path, help="with --measure: what benchmark_data_loading.py --json has written"
    )
    parser.add_argument("--timed", nargs="*", default=VITS[:2], choices=VITS, help="encoders whose step is timed")
    parser.add_argument("--window", type=int, default=160, help="side in voxels, a multiple of 8")
    parser.add_argument("--decoder-dim", type=int, default=96)
    parser.add_argument("--decoder-depth", type=int, default=2)
    parser.add_argument("--decoder-heads", type=int, default=2)
    parser.add_argument("--mask-ratio", type=float, default=0.75)
    return parser.parse_args(words)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return, for each encoder, weights, operations and kept bytes of one window, and CPU seconds where asked for."""
    torch.set_num_threads(1)
    encoders: dict[str, dict[str, float]] = {}
    for name in VITS:
        weights = count_weights(build(name, arguments))
        encoders[name] = {"weights": weights, **counted(name, arguments, arguments.window)}
        if name in arguments.timed:
            encoders[name]["cpu_s"] = cpu_time(build(name, arguments), arguments.window)
        print(name, encoders[name], flush=True)
    settings = {key: getattr(arguments, key) for key in ("window", "mask_ratio", *DECODER)}
    measured = {"settings": settings, "torch": torch.__version__, "cpu": processor(), "encoders": encoders}
    if arguments.loading is not None:
        measured["loading"] = loading(json.loads(arguments.loading.read_text(encoding="utf-8")))
    return measured


def loading(benchmark: dict[str, Any]) -> dict[str, Any]:
    """Return what the tables need of a benchmark of data loading."""
    costs = {row["source"]: row["cpu_s_per_window"] for row in benchmark["warm"] if row["workers"] == 0}
    read = benchmark["cold_bytes_per_window"]
    return {"window": benchmark["command"]["window"], "cpu_s_per_window": costs, "cold_bytes_per_window": read}


def build(name: str, arguments: argparse.Namespace, depth: int | None = None) -> MaskedAutoencoder:
    """Return the masked autoencoder, with an encoder of another depth if asked."""
    other = {} if depth is None else {"depth": depth, "out_layers": None}
    decoder = {key: getattr(arguments, key) for key in DECODER}
    return MaskedAutoencoder(create_encoder(name, **other), mask_ratio=arguments.mask_ratio, **decoder)


def counted(name: str, arguments: argparse.Namespace, side: int) -> dict[str, int]:
    """Return operations and kept bytes of one window, from windows and encoders that are smaller."""
    depth = ENCODERS[name].arguments["depth"]
    networks = [build(name, arguments, blocks) for blocks in (1, 2)]
    measured = {small: [count(network, small) for network in networks] for small in SMALL_SIDES}
    units = [(small // 8) ** 3 for small in SMALL_SIDES]
    result = {}
    for key in ("flops", "kept_bytes"):
        whole = [one[key] + (depth - 1) * (two[key] - one[key]) for one, two in measured.values()]
        result[key] = extrapolate(units, whole, (side // 8) ** 3)
    return result


def extrapolate(places: Sequence[int], values: Sequence[int], at: int) -> int:
    """Return the value at a place of the polynomial through all others (Lagrange)."""
    total = Fraction(0)
    for number, (place, value) in enumerate(zip(places, values, strict=True)):
        others = [other for index, other in enumerate(places) if index != number]
        total += value * prod(Fraction(at - other, place - other) for other in others)
    return int(total)


def count(network: MaskedAutoencoder, side: int) -> dict[str, int]:
    """Return operations of forward and backward pass of one window, and the bytes kept between them."""
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x, mask = window_and_mask(network, side)
    with TrainingFlops() as flops:
        with saved_tensors_hooks(remember, lambda tensor: tensor):
            loss = network.loss(x, mask)
        loss.backward()
    return {"flops": flops.total, "kept_bytes": sum(kept.values())}


def cpu_time(network: MaskedAutoencoder, side: int) -> float:
    """Return the CPU seconds of forward and backward pass of one window, the lesser of two."""
    x, mask = window_and_mask(network, side)
    times = []
    for _ in range(2):
        started = time.process_time()
        network.loss(x, mask).backward()
        times.append(time.process_time() - started)
    return min(times)


def window_and_mask(network: MaskedAutoencoder, side: int) -> tuple[Tensor, Tensor]:
    """Return a window of noise and a mask for it."""
    x = torch.randn(1, 1, side, side, side, generator=torch.Generator().manual_seed(0))
    return x, network.draw_mask(x, seeded_generator(0))


def count_weights(network: nn.Module) -> int:
    """Return the number of weights."""
    return sum(weight.numel() for weight in network.parameters())


def tables(measured: dict[str, Any]) -> str:
    """Return the tables of docs/scaling.md, in Markdown."""
    settings, encoders = measured["settings"], measured["encoders"]
    side = settings["window"]
    window_gb = 2 * side**3 / 1e9
    costs, read = (measured["loading"][key] for key in ("cpu_s_per_window", "cold_bytes_per_window"))
    lines = [
        f"One window of {side}^3, {settings['mask_ratio']:.0%} hidden, forward and backward; this CPU is one core of "
        f"{measured['cpu']}, float32:",
        "",
        "| encoder | weights, M | TFLOP a window | s a window, this CPU | GFLOP/s, this CPU | kept for backward, GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in encoders.items():
        times = [f"{row['cpu_s']:.1f}", f"{row['flops'] / row['cpu_s'] / 1e9:.0f}"] if "cpu_s" in row else ["-", "-"]
        cells = (name, f"{row['weights'] / 1e6:.1f}", f"{row['flops'] / 1e12:.2f}", *times)
        lines.append(f"| {' | '.join(cells)} | {row['kept_bytes'] / 1e9:.2f} |")
    lines += [
        "",
        f"{DEVICES} H100 at {UTILISATION[0]:.0%} to {UTILISATION[1]:.0%} of {PEAK_TFLOPS} TFLOP/s; hours for {VOLUMES} "
        "volumes, by how many windows each gives:",
        "",
        "| encoder | windows/s | " + " | ".join(f"{passes} windows each, h" for passes in PASSES) + " |",
        "| --- | --- | " + " | ".join("---" for _ in PASSES) + " |",
    ]
    for name, row in encoders.items():
        speeds = [windows_per_s(row["flops"], share) for share in UTILISATION]
        hours = [between(*(VOLUMES * passes / speed / HOUR_S for speed in reversed(speeds))) for passes in PASSES]
        lines.append(f"| {name} | {between(*speeds)} | {' | '.join(hours)} |")
    lines += [
        "",
        f"Data: a window is {window_gb * 1e3:.1f} MB as float16. One of {measured['loading']['window']}^3 costs "
        f"{1e3 * costs['nifti']:.0f} ms of a core of this CPU from NIfTI, {1e3 * costs['store']:.0f} ms from a store. "
        f"What {DEVICES} H100 take in:",
        "",
        "| encoder | GB/s of float16 | GB/s off disk, NIfTI | the same, store | cores, NIfTI | cores, store |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in encoders.items():
        speeds = [windows_per_s(row["flops"], share) for share in UTILISATION]
        factors = (window_gb, read["nifti"] / 1e9, read["store"] / 1e9, costs["nifti"], costs["store"])
        cells = [between(*(speed * factor for speed in speeds)) for factor in factors]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Memory of one H100; with full sharding each holds an eighth of weights, gradients and the optimiser's state:",
        "",
        f"| encoder | weights to optimiser, GB | an eighth, GB | windows in {MEMORY_GB} GB |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in encoders.items():
        states = 16 * row["weights"] / 1e9  # weight, gradient and two moments, four bytes each
        fitting = int((MEMORY_GB - states) // (row["kept_bytes"] / 2 / 1e9))  # in bfloat16 about half is kept
        lines.append(f"| {name} | {states:.2f} | {states / DEVICES:.2f} | {fitting} |")
    total_tb = VOLUMES * VOLUME_VOXELS * 2 / 1e12
    lines += [
        "",
        f"Disk: {VOLUMES} volumes of {VOLUME_VOXELS / 1e6:.1f} million voxels are {total_tb:.1f} TB as float16 and, at "
        f"{STORE_OF_FLOAT16} of that, {STORE_OF_FLOAT16 * total_tb:.1f} TB in a store, {-(-VOLUMES // 64)} shards.",
    ]
    return "\n".join(lines)


def windows_per_s(flops: float, utilisation: float) -> float:
    """Return how many windows all devices train on in a second."""
    return DEVICES * PEAK_TFLOPS * 1e12 * utilisation / flops


def between(low: float, high: float) -> str:
    """Return a range with two significant digits."""
    return " to ".join(f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in (low, high))


def processor() -> str:
    """Return the name of the CPU."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
