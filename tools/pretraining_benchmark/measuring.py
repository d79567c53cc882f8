"""Time of steps that take turns, and the memory of each kind of step in a process of its own."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch
from fewshot_benchmark.clock import Stage, peak_memory_mb, timed

from pretraining_benchmark.contenders import Sizes, TrainingStep

MEMORY_STEPS = 2  # the second has the optimiser's state


def step_times(steps: dict[str, TrainingStep], repetitions: int, warmup: int) -> dict[str, list[Stage]]:
    """Return what each repetition of each step took; steps take turns, so that a busy machine slows all of them."""
    times: dict[str, list[Stage]] = {name: [] for name in steps}
    for repetition in range(warmup + repetitions):
        for name, step in steps.items():
            with timed() as stage:
                step()
            if repetition >= warmup:
                times[name].append(stage)
    return times


def peak_memory(name: str, sizes: Sizes, device: str, threads: int) -> float:
    """Return the MiB that two steps of a contender need at their peak, in a process of its own.

    On the CPU it is what the process holds beyond what it held before the network was made; on a GPU what PyTorch
    allocated there.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_peak_memory_here, name, sizes, device, threads).result()


def _peak_memory_here(name: str, sizes: Sizes, device: str, threads: int) -> float:
    torch.set_num_threads(threads)
    before = peak_memory_mb()
    step = TrainingStep(name, sizes, torch.device(device))
    for _ in range(MEMORY_STEPS):
        step()
    if step.device.type == "cuda":
        return torch.cuda.max_memory_allocated(step.device) / 2**20
    return peak_memory_mb() - before
