"""Many scans through one bundle: reading, inference and writing overlap, and one bad scan does not end the rest."""

import errno
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medfm3d.inference.batch_journal import CaseRecord, scan_stamp
from medfm3d.inference.bundle_writer import BundleError
from medfm3d.inference.case_segmenter import CaseSegmenter
from medfm3d.volumes import VolumeError
from medfm3d.volumes.errors import causes

AHEAD = 2  # scans that are read before their turn, and masks that wait to be written; bounds the memory
_NO_USE_GOING_ON = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class BatchStopped(OSError):  # noqa: N818 - it is what happened, not a fault of the program
    """Nothing more can be written to the output folder; what was done until then is in the journal."""


def segment_batch(segmenter: CaseSegmenter, scans: Iterable[Path], fingerprint: str) -> Iterator[CaseRecord]:
    """Segment scans and yield a record of each, in their order, as soon as its mask is written.

    While the network works on one scan, the next ones are read and the masks of earlier ones are written, each by a
    thread of its own. An error in one scan ends up in its record.

    Raises:
        BatchStopped: if the output folder is full or cannot be written to.
    """
    reading, writing = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "write")
    in_writing: deque[_Case] = deque()
    try:
        for case in _read_ahead(segmenter, scans, fingerprint, reading):
            batch, case.reading = case.reading.result(), None  # the scan's memory goes as soon as it can
            said = None if batch is None else case.take("infer", segmenter.infer, batch)
            if said is not None:
                case.writing = writing.submit(case.take, "write", segmenter.write, said)
            in_writing.append(case)
            while len(in_writing) > AHEAD:
                yield in_writing.popleft().finished()
        while in_writing:
            yield in_writing.popleft().finished()
    finally:
        for pool in (reading, writing):
            pool.shutdown(cancel_futures=True)


class _Case:
    """A scan on its way."""

    def __init__(self, scan: Path, fingerprint: str) -> None:
        self.scan, self.fingerprint = scan, fingerprint
        self.seconds: dict[str, float] = {}
        self.error: BaseException | None = None
        self.stamp = ""
        self.reading: Future[Any] | None = None
        self.writing: Future[Any] | None = None

    def read(self, segmenter: CaseSegmenter) -> Any:
        def stamped(scan: Path) -> Any:
            self.stamp = scan_stamp(scan)  # before it is read: a scan that changes meanwhile is done again
            return segmenter.read(scan)

        return self.take("read", stamped, self.scan)

    def take(self, step: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do a step and return its result, or None if it fails, whose error is kept then."""
        started = time.perf_counter()
        try:
            return work(*arguments)
        except Exception as raised:
            error = _reason(raised)
            if isinstance(error, OSError) and error.errno in _NO_USE_GOING_ON:
                reason = f"{self.scan}: its mask cannot be written ({error}); make room, then go on"
                raise BatchStopped(reason) from raised
            self.error = error
            return None
        finally:
            self.seconds[step] = time.perf_counter() - started

    def finished(self) -> CaseRecord:
        written = None if self.writing is None else self.writing.result()
        if written is None:
            what = f"{type(self.error).__name__}: {self.error}"
            return CaseRecord(str(self.scan), self.stamp, self.fingerprint, seconds=self.seconds, error=what)
        mask, volumes_ml, remarks = written
        return CaseRecord(str(self.scan), self.stamp, self.fingerprint, str(mask), volumes_ml, remarks, self.seconds)


def _reason(error: BaseException) -> BaseException:
    """Return what explains an error best: of those that it wraps, as MONAI does, ours if there is one, or the first."""
    chain = causes(error)
    return next((one for one in chain if isinstance(one, VolumeError | BundleError)), chain[-1])


def _read_ahead(
    segmenter: CaseSegmenter, scans: Iterable[Path], fingerprint: str, reading: ThreadPoolExecutor
) -> Iterator[_Case]:
    waiting: deque[_Case] = deque()
    for scan in scans:
        case = _Case(scan, fingerprint)
        case.reading = reading.submit(case.read, segmenter)
        waiting.append(case)
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting
