"""Time and memory that a run takes, on Linux."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Stage:
    """What a stage of a run took: seconds on the clock, and seconds of all cores in the process and its children."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


def cpu_seconds() -> float:
    """Return the CPU seconds (user and system) of this process and of its children that have ended.

    Unlike time on the clock they hardly depend on what else the machine does.
    """
    return sum(os.times()[:4])


@contextmanager
def timed() -> Iterator[Stage]:
    """Measure what is done inside; the stage has its figures once it is left, by an error too."""
    stage = Stage()
    wall, cpu = time.perf_counter(), cpu_seconds()
    try:
        yield stage
    finally:
        stage.wall_s, stage.cpu_s = time.perf_counter() - wall, cpu_seconds() - cpu


def peak_memory_mb() -> float:
    """Return the most memory that this process has held in RAM so far, in MiB.

    It comes from /proc, not from getrusage, whose figure a new process takes over from the one that started it.

    Raises:
        RuntimeError: if the system keeps no such figure.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status: has no VmHWM; the benchmark needs Linux")
