"""A cohort's volumes prepared in parallel and put into a sharded store."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose
from torch import Tensor

from medfm3d.cohorts.volume_store import VolumeStore
from medfm3d.cohorts.volume_store_writer import SourceFile, finish, open_for_writing, write_shard
from medfm3d.pretraining.cohort_volumes import PretrainingCohort
from medfm3d.volumes import VolumeError
from medfm3d.volumes.errors import causes


@dataclass(frozen=True)
class _ShardTask:
    cohort: PretrainingCohort
    folder: Path
    number: int
    files: tuple[Path, ...]
    skip_bad: bool


def shard_cohort(
    cohort: PretrainingCohort,
    folder: str | Path,
    *,
    volumes_per_shard: int = 64,
    workers: int = 0,
    skip_bad: bool = False,
    on_shard: Callable[[int, int], None] = lambda done, of: None,
) -> VolumeStore:
    """Prepare a cohort's volumes and store them; goes on where it was cut off, and adds scans that are new.

    What is read back is, to the bit, what `PreparedVolumes` keeps in its cache.

    Args:
        cohort: whose volumes, and how they are prepared.
        folder: the store's folder.
        volumes_per_shard: of which a shard is made; a run that is cut off loses the shards it had begun.
        workers: processes that prepare shards; none beside this one if 0.
        skip_bad: leave out scans that cannot be read, and list them in the store; otherwise the first ends the run.
        on_shard: called after each shard with the number of shards done and of all.

    Returns:
        The store.

    Raises:
        VolumeError: if a scan is bad and `skip_bad` is not set, if a stored scan's file has changed, if the folder
            holds a store of other settings, or if nothing is left to store.
        ValueError: if a number is out of range.
    """
    if volumes_per_shard < 1 or workers < 0:
        raise ValueError(f"volumes_per_shard {volumes_per_shard} must be at least 1, and workers {workers} at least 0")
    folder = Path(folder)
    files = cohort.files()
    settings = cohort.settings()
    shards = open_for_writing(folder, settings)
    remaining = _not_stored(files, shards, folder)
    first = max((int(Path(shard["file"]).stem.split("_")[1]) + 1 for shard in shards), default=0)
    tasks = [
        _ShardTask(cohort, folder, first + number, tuple(remaining[start : start + volumes_per_shard]), skip_bad)
        for number, start in enumerate(range(0, len(remaining), volumes_per_shard))
    ]
    for done, _ in enumerate(_run(tasks, workers), start=1):
        on_shard(done, len(tasks))
    finish(folder, settings)
    store = VolumeStore(folder)
    if not store.volumes:
        raise VolumeError(f"{folder}: none of {len(files)} scans can be used; the first: {store.skipped[0]['error']}")
    return store


def _not_stored(files: Sequence[Path], shards: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    known = {entry["source"]: entry for shard in shards for kind in ("volumes", "skipped") for entry in shard[kind]}
    remaining = []
    for file in files:
        now = SourceFile.of(file)
        entry = known.get(now.source)
        if entry is None:
            remaining.append(file)
        elif (entry["size"], entry["mtime_ns"]) != (now.size, now.mtime_ns):
            raise VolumeError(f"{file}: has changed since it was stored in {folder}; store in a new folder")
    return remaining


def _run(tasks: Sequence[_ShardTask], workers: int) -> Iterator[dict[str, Any]]:
    if workers == 0:
        yield from map(_make_shard, tasks)
        return
    # Spawned, since this process may have threads, which a fork would leave in the middle of what they do.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for future in as_completed([pool.submit(_make_shard, task) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _make_shard(task: _ShardTask) -> dict[str, Any]:
    preparation = Compose(task.cohort.preprocessing())
    parent = multiprocessing.parent_process()

    def prepared() -> Iterator[tuple[SourceFile, Tensor | VolumeError]]:
        for file in task.files:
            if parent is not None and not parent.is_alive():
                raise SystemExit("the process that asked for this shard is gone")
            try:
                yield SourceFile.of(file), preparation({"image": str(file)})["image"]
            except Exception as error:
                fault = _fault_of_the_scan(error)
                if fault is None or not task.skip_bad:
                    raise (error if fault is None else fault) from None
                yield SourceFile.of(file), fault

    return write_shard(task.folder, task.number, prepared())


def _fault_of_the_scan(error: BaseException) -> VolumeError | None:
    """Return the VolumeError that MONAI wrapped, if there is one: anything else is no fault of the scan."""
    return next((cause for cause in causes(error) if isinstance(cause, VolumeError)), None)
