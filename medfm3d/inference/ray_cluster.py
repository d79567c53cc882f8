"""Ray: whether it is there, which machines it has, and what each worker gets of them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from medfm3d.inference.bundle_writer import BundleError

OBJECT_STORE_BYTES = 80_000_000  # about the least that Ray takes; scans and masks go by files, not through it


@dataclass(frozen=True)
class WorkerShare:
    """How many workers there are, and what each of them gets.

    Attributes:
        workers: how many.
        cpus: CPU cores of each.
        gpus: GPUs of each, 0 or 1.
    """

    workers: int
    cpus: int
    gpus: int

    @property
    def device(self) -> str:
        """Where each computes; Ray shows a worker no GPU but its own."""
        return "cuda" if self.gpus else "cpu"


def share_machines(machines: Sequence[tuple[int, int]], workers: int | None, device: str) -> WorkerShare:
    """Return what each worker gets, so that all of them find a place at the same time.

    Args:
        machines: CPU cores and GPUs of each machine.
        workers: how many; one for each GPU if None, or one for each machine where GPUs are not used.
        device: "auto" (GPUs if there are any), "cpu" or "cuda".

    Raises:
        ValueError: if there are fewer GPUs or cores than workers, or for another device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {device!r}: Ray deals out the GPUs by itself; choose auto, cpu or cuda")
    gpus = sum(gpu for _, gpu in machines)
    cores = sum(core for core, _ in machines)
    if device == "cuda" and not gpus:
        raise ValueError("device 'cuda': the Ray cluster has no GPU; choose cpu, or see `ray status`")
    if device != "cpu" and gpus:
        rooms, what, by_default = [(core, gpu) for core, gpu in machines], f"{gpus} GPUs", gpus
    else:
        rooms, what, by_default = [(core, core) for core, _ in machines], f"{cores} CPU cores", len(machines)
    wanted = by_default if workers is None else workers
    for cpus in range(max((core for core, _ in machines), default=0), 0, -1):
        if sum(min(core // cpus, most) for core, most in rooms) >= wanted:
            return WorkerShare(wanted, cpus, int(device != "cpu" and gpus > 0))
    raise ValueError(f"{wanted} workers: the Ray cluster has {what} on {len(machines)} machines; ask for fewer")


def import_ray() -> ModuleType:
    """Return Ray; raises BundleError if it is not installed."""
    # Ray reports statistics of use over the network unless told not to; here a user asks for it who wants it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise BundleError(
            'the ray engine: Ray is not installed; install it by `pip install "medfm3d[ray]"`, or use --engine local'
        ) from error
    return ray


@contextmanager
def connected(ray: ModuleType) -> Iterator[list[tuple[int, int]]]:
    """Connect to the cluster that RAY_ADDRESS names, or start one on this machine, for as long as the context lasts.

    A connection that is there already is used, and left.

    Yields:
        CPU cores and GPUs of each machine.

    Raises:
        BundleError: if the cluster cannot be reached.
    """
    own = not ray.is_initialized()
    if own:
        os.environ.setdefault("RAY_worker_niceness", "0")  # else workers give way to all else on the machine
        address = os.environ.get("RAY_ADDRESS")
        local = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
        try:
            ray.init(address or "local", logging_level="ERROR", **({} if address else local))
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f"no cluster at RAY_ADDRESS={address}" if address else "it does not start on this machine"
            raise BundleError(
                f"the ray engine: {where} ({error}); see `ray status`, or use the local engine"
            ) from error
    try:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        machines = [(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]
        yield [machine for machine in machines if machine[0]]
    finally:
        if own:
            ray.shutdown()
