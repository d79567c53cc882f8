"""Many scans through one bundle on the workers of a Ray cluster, some of which may be lost."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from medfm3d.inference.batch_engine import AHEAD
from medfm3d.inference.batch_journal import CaseRecord
from medfm3d.inference.batch_stopped import BatchStopped
from medfm3d.inference.case_run import CaseRun
from medfm3d.inference.ray_cluster import connected, import_ray, share_machines
from medfm3d.inference.ray_worker import SegmentationWorker
from medfm3d.volumes.whole_file import remove_leftovers

ATTEMPTS = 3


def segment_on_ray(
    bundle: str | Path,
    values: Mapping[str, Any],
    scans: Sequence[Path],
    fingerprint: str,
    output: str | Path,
    *,
    workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
    attempts: int = ATTEMPTS,
) -> Iterator[CaseRecord]:
    """Segment scans on Ray and yield a record of each as soon as it is done, in any order.

    Ray places the workers, each with a GPU or a share of the CPU cores, and deals out what they are asked for. Scans
    and masks are files that all machines see. A worker is handed as many cases at once as the local engine has under
    way. One that is lost (killed, out of memory, its machine gone) is replaced, and each of its cases is tried again,
    alone, so that the one that is to blame is known.

    Args:
        bundle: an adapted bundle.
        values: config values of its inference workflow.
        scans: their paths.
        fingerprint: of bundle and options, for the records.
        output: folder of masks.
        workers: how many, and `device`: where they compute; see `share_machines`.
        device: see there.
        seed: of everything random.
        attempts: how many workers a case may have been with when they were lost, before it counts as failed; and how
            many may be lost one after the other before they have loaded the bundle.

    Raises:
        BundleError: if Ray is not installed, not to be reached, or a worker cannot load the bundle.
        BatchStopped: if the output folder is full, or workers are lost before they have loaded the bundle.
    """
    ray = import_ray()
    values = {**values, "datalist": []}
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=output, prefix=".shared-with-ray-") as landmark, connected(ray) as machines:
        share = share_machines(machines, workers, device)
        place = (Path.cwd(), Path(landmark.name))
        actor = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_concurrency=AHEAD + 1)(SegmentationWorker)
        start = partial(actor.remote, Path(bundle), values, share.device, seed, fingerprint, *place)
        team = [_Worker(start()) for _ in range(min(share.workers, len(scans)))]
        try:
            yield from _Dispatch(ray, start, team, scans, fingerprint, attempts, output).records()
        finally:
            for worker in team:
                worker.end(ray, output)


@dataclass
class _Job:
    scan: Path
    losses: int = 0


class _Worker:
    def __init__(self, actor: Any) -> None:
        self.begin(actor)

    def begin(self, actor: Any) -> None:
        self.actor = actor
        self.opening: Any = actor.open.remote()
        self.writer: str | None = None
        self.running: dict[Any, _Job] = {}

    def end(self, ray: ModuleType, output: Path) -> None:
        ray.kill(self.actor)  # also if it is lost: it may only be out of reach
        if self.writer is not None:
            remove_leftovers(output, self.writer)

    @property
    def takes_suspects(self) -> bool:
        return self.opening is None and not self.running

    @property
    def takes_more(self) -> bool:
        alone = any(job.losses for job in self.running.values())
        return self.opening is None and not alone and len(self.running) <= AHEAD


@dataclass
class _Dispatch:
    """Which case goes to which worker."""

    ray: ModuleType
    start: Callable[[], Any]
    team: list[_Worker]
    scans: Sequence[Path]
    fingerprint: str
    attempts: int
    output: Path
    lost_unopened: int = 0
    suspects: deque[_Job] = field(default_factory=deque)

    def records(self) -> Iterator[CaseRecord]:
        waiting = deque(_Job(scan) for scan in self.scans)
        while waiting or self.suspects or any(worker.running for worker in self.team):
            for worker in self.team:
                if self.suspects and worker.takes_suspects:
                    self._hand(self.suspects.popleft(), worker)
                while waiting and worker.takes_more:
                    self._hand(waiting.popleft(), worker)
            busy = {ref: worker for worker in self.team for ref in [worker.opening, *worker.running] if ref is not None}
            (ready,), _ = self.ray.wait(list(busy), num_returns=1)
            yield from self._answer(ready, busy[ready])

    def _hand(self, job: _Job, worker: _Worker) -> None:
        worker.running[worker.actor.segment.remote(job.scan)] = job

    def _answer(self, ready: Any, worker: _Worker) -> Iterator[CaseRecord]:
        try:
            said = self.ray.get(ready)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self.ray.exceptions.RayError as error:  # the worker's process, or its machine, is gone
            yield from self._replace(worker, error)
            return
        if ready == worker.opening:
            worker.opening, worker.writer, self.lost_unopened = None, said, 0
            return
        del worker.running[ready]
        yield _not_stopped(said)

    def _replace(self, worker: _Worker, error: Exception) -> Iterator[CaseRecord]:
        why = " ".join(str(error).split())
        if worker.opening is not None:
            self.lost_unopened += 1
            if self.lost_unopened >= self.attempts:
                raise BatchStopped(
                    f"{self.lost_unopened} workers in turn were lost before they had loaded the bundle ({why}); ask "
                    "for fewer workers, or give them more memory"
                ) from error
        for ref, job in worker.running.items():
            try:
                said = self.ray.get(ref)
            except self.ray.exceptions.RayError:
                job.losses += 1
            else:
                yield _not_stopped(said)  # it was done before the worker was lost
                continue
            if job.losses < self.attempts:
                self.suspects.append(job)
            else:
                yield CaseRun(job.scan, self.fingerprint).failed(
                    f"{job.scan}: its worker was lost {job.losses} times over it ({why}); it may need more memory than "
                    "there is, or be a file that crashes what reads it"
                )
        worker.end(self.ray, self.output)
        worker.begin(self.start())


def _not_stopped(said: CaseRecord | BatchStopped) -> CaseRecord:
    if isinstance(said, BatchStopped):
        raise said
    return said
