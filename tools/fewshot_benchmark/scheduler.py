"""Runs one after another, or side by side, each in a process of its own on its own cores."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewshot_benchmark.job import Job
from fewshot_benchmark.results import failed_result, write_result
from medfm3d.openmp import waiting_settings
from medfm3d.volumes import write_json

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LOG_LINES = 15
POLL_S = 0.2


def worker_environment(threads: int) -> dict[str, str]:
    """Return the environment of a run.

    Freed memory is kept for the next allocation rather than given back: without that, 3D networks spend a third of
    their CPU time in the kernel, which clears pages anew at every step. It serves nnU-Net most.
    """
    tools = str(Path(__file__).resolve().parents[1])
    return {
        **os.environ,
        **{name: str(threads) for name in THREAD_VARIABLES},
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
        **waiting_settings(os.environ),
        "MALLOC_TRIM_THRESHOLD_": str(40 * 10**9),
        "MALLOC_MMAP_MAX_": "0",
        "PYTHONPATH": os.pathsep.join([tools, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "CUDA_VISIBLE_DEVICES": "",
    }


def split_cores(jobs: int, threads: int) -> list[list[int]]:
    """Return the cores of each run that goes on at one time.

    Raises:
        ValueError: if this process may not use that many cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if jobs * threads > len(cores):
        raise ValueError(f"{jobs} jobs of {threads} threads need {jobs * threads} cores; there are {len(cores)}")
    return [cores[number * threads : (number + 1) * threads] for number in range(jobs)]


def run_all(jobs: Sequence[Job], work: Path, *, at_once: int = 1, keep: bool = False) -> Iterator[Job]:
    """Make all runs and yield each as it ends; every one then has its result, be it that of a failure.

    If this is interrupted, the runs that are going on end and leave no result.

    Args:
        jobs: the runs, in their order.
        work: folder of all results.
        at_once: how many go side by side.
        keep: whether models stay.
    """
    slots = split_cores(at_once, jobs[0].threads) if jobs else []
    waiting = list(jobs)
    running: dict[int, tuple[Job, subprocess.Popen, Path]] = {}
    with tempfile.TemporaryDirectory(prefix="fewshot_benchmark_") as temporary:
        try:
            while waiting or running:
                for slot, cores in enumerate(slots):
                    if slot not in running and waiting:
                        job = waiting.pop(0)
                        order = {"job": job.to_json(), "work": str(work.absolute()), "keep": keep, "cores": cores}
                        file = write_json(order, Path(temporary) / f"{slot}.json")
                        running[slot] = (job, *_start(job, work, file))
                for slot, (job, process, log) in list(running.items()):
                    if process.poll() is not None:
                        del running[slot]
                        if not job.result_file(work).is_file():
                            write_result(failed_result(job, _last_words(process.returncode, log)), job, work)
                        yield job
                time.sleep(POLL_S)
        finally:
            for _, process, _ in running.values():
                process.terminate()
                process.wait()


def _start(job: Job, work: Path, order: Path) -> tuple[subprocess.Popen, Path]:
    log = job.result_file(work).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "fewshot_benchmark.worker", str(order)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=worker_environment(job.threads),
        )
    return process, log


def _last_words(code: int, log: Path) -> str:
    ended = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return f"the process was {ended}; its log ends: " + " | ".join(line.strip() for line in lines)
