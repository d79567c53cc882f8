"""Windows a second from plain NIfTI files, from the cache and from a sharded store, and the room that each takes.

Plain NIfTI means what MONAI's loaders do without a cache: read, unpack and prepare the scan for each window. The
sources take turns over the same windows, so that a machine that is busy for a while slows all of them; CPU time a
window is what other programs change least. Then windows are read once more, with the files dropped from memory before
each, and what comes from the disk is counted (Linux). Without --data, synthetic CT phantoms are drawn.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from medfm3d.cohorts import write_phantom_cohort
from medfm3d.pretraining import PreparedVolumes, PretrainingCohort, WindowDataset, prepared_entries, shard_cohort

SOURCES = ("nifti", "cache", "store")


class PlainScans(WindowDataset):
    """Windows whose scan is read and prepared anew for each; `entries` are the scans' files."""

    def __init__(self, cohort: PretrainingCohort, window: Sequence[int], seed: int) -> None:
        super().__init__([cohort.files()], [1.0], window, seed, 0)
        self.preparation = Compose(cohort.preprocessing())

    def draw(self, number: int) -> tuple[Tensor, np.random.Generator]:
        """Return the prepared volume of a window, and the generator that draws the rest of it."""
        rng = np.random.default_rng([self.seed, self.stream, number])
        rng.choice(1, p=self.probabilities)
        file = self.entries[0][rng.integers(len(self.entries[0]))]
        return self.preparation({"image": str(file)})["image"], rng


def main() -> None:
    """Measure, print and write what was measured."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    with scans(arguments) as folder, tempfile.TemporaryDirectory(dir=arguments.work) as work:
        cohort = PretrainingCohort(folder)
        window = (arguments.window,) * 3
        prepared = PreparedVolumes(cohort, cohort.files(), Path(work) / "cache")
        preparing = {"nifti": 0.0, "cache": timed(prepared.prepare)}
        preparing["store"] = timed(lambda: shard_cohort(cohort, Path(work) / "store"))
        stored = prepared_entries(PretrainingCohort(Path(work) / "store"), work)
        datasets = {
            "nifti": PlainScans(cohort, window, arguments.seed),
            "cache": WindowDataset([prepared.entries()], [1.0], window, arguments.seed, 0),
            "store": WindowDataset([stored], [1.0], window, arguments.seed, 0),
        }
        for number in range(3):
            first, *others = (datasets[name][number]["image"] for name in SOURCES)
            assert all(torch.equal(first, other) for other in others), "the sources differ"
        files = {
            "nifti": cohort.files(),
            "cache": prepared.entries(),
            "store": sorted((Path(work) / "store").iterdir()),
        }
        result = {
            "command": vars(arguments),
            "volumes": len(cohort.files()),
            "voxels": sum(int(np.prod(volume.shape)) for volume in stored),
            "disk_bytes": {name: sum(file.stat().st_size for file in paths) for name, paths in files.items()},
            "preparing_s": preparing,
            "warm": measure(datasets, arguments),
            "cold_bytes_per_window": {name: cold_bytes(datasets[name], files[name], arguments) for name in SOURCES},
        }
    show(result, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of scans; phantoms if left out")
    parser.add_argument("--volumes", type=int, default=6, help="phantoms to draw")
    parser.add_argument("--side", type=int, default=192, help="voxels of a phantom along each axis")
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--windows", type=int, default=24, help="windows of a round; the plain files give a quarter")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, help="folder, on the disk to measure, for temporary files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    return parser.parse_args(words)


@contextmanager
def scans(arguments: argparse.Namespace) -> Iterator[Path]:
    """Give the folder of scans, drawn and removed if none was named."""
    if arguments.data is not None:
        yield arguments.data
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        side = arguments.side
        yield write_phantom_cohort(
            Path(folder) / "phantoms", cases=arguments.volumes, seed=arguments.seed, shape=(side,) * 3,
            spacing_mm=288 / side, labelled=0,
        )  # fmt: skip


def timed(work: Any) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(datasets: dict[str, WindowDataset], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each source and number of workers: windows a second; without workers, CPU seconds a window."""
    rows = []
    for workers in arguments.workers:
        speeds: dict[str, list[float]] = {name: [] for name in SOURCES}
        cpu: dict[str, list[float]] = {name: [] for name in SOURCES}
        for turn in range(arguments.rounds):
            for name in SOURCES:
                windows = max(2, arguments.windows // 4) if name == "nifti" else arguments.windows
                speed, cost = load(datasets[name], range(turn * windows, (turn + 1) * windows), workers)
                speeds[name].append(speed)
                cpu[name].append(cost)
        for name in SOURCES:
            # With workers, starting them would count.
            median, cost = statistics.median(speeds[name]), None if workers else statistics.median(cpu[name])
            rows.append({"source": name, "workers": workers, "windows_per_s": median, "cpu_s_per_window": cost})
    return rows


def load(dataset: WindowDataset, numbers: Sequence[int], workers: int) -> tuple[float, float]:
    """Return windows a second from the first one on, and CPU seconds a window."""
    before = cpu_seconds()
    batches = iter(DataLoader(Subset(dataset, numbers), batch_size=None, num_workers=workers))
    next(batches)  # with it, workers have started
    started = time.perf_counter()
    loaded = sum(1 for _ in batches)
    elapsed_s = time.perf_counter() - started
    return loaded / elapsed_s, (cpu_seconds() - before) / len(numbers)


def cpu_seconds() -> float:
    """Return the CPU time of this process, with that of the system for it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cold_bytes(dataset: WindowDataset, files: Sequence[Path], arguments: argparse.Namespace) -> float | None:
    """Return the bytes that a window takes from the disk if no file is in memory; None where that is not known."""
    counter = Path("/proc/self/io")
    if not counter.exists():
        return None
    windows = 2 if isinstance(dataset, PlainScans) else 8
    read = 0
    for number in range(windows):
        for file in files:
            forget(file)
        before = bytes_read(counter)
        dataset[number]
        read += bytes_read(counter) - before
    return read / windows


def forget(file: Path) -> None:
    """Empty the page cache of a file."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def bytes_read(counter: Path) -> int:
    """Return what this process has had read from disks."""
    lines = dict(line.split(": ") for line in counter.read_text().splitlines())
    return int(lines["read_bytes"])


def show(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Print the tables, in Markdown."""
    raw = 2 * result["voxels"]
    print(f"{result['volumes']} volumes, {raw / 1e6:.0f} MB as float16; windows of {arguments.window}^3\n")
    print("| source | MB on disk | of float16 | preparing, s | MB read for a window, cold |")
    print("| --- | --- | --- | --- | --- |")
    for name in SOURCES:
        size, cold = result["disk_bytes"][name], result["cold_bytes_per_window"][name]
        read = "-" if cold is None else f"{cold / 1e6:.1f}"
        print(f"| {name} | {size / 1e6:.1f} | {size / raw:.2f} | {result['preparing_s'][name]:.1f} | {read} |")
    print("\n| source | workers | windows/s | times nifti | CPU ms a window | of nifti |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = result["warm"]
    for row in rows:
        base = next(r for r in rows if r["source"] == "nifti" and r["workers"] == row["workers"])
        cost, base_cost = row["cpu_s_per_window"], base["cpu_s_per_window"]
        shares = "- | -" if cost is None else f"{1e3 * cost:.1f} | {cost / base_cost:.3f}"
        speed = row["windows_per_s"]
        print(f"| {row['source']} | {row['workers']} | {speed:.2f} | {speed / base['windows_per_s']:.1f} | {shares} |")


if __name__ == "__main__":
    main()
