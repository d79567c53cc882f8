"""Many scans through one bundle: reading, inference and writing overlap, and one bad scan does not end the rest."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medfm3d.inference.batch_journal import CaseRecord
from medfm3d.inference.case_run import CaseRun
from medfm3d.inference.case_segmenter import CaseSegmenter

AHEAD = 2  # scans that are read before their turn, and masks that wait to be written; bounds the memory


def segment_batch(segmenter: CaseSegmenter, scans: Iterable[Path], fingerprint: str) -> Iterator[CaseRecord]:
    """Segment scans and yield a record of each, in their order, as soon as its mask is written.

    While the network works on one scan, the next ones are read and the masks of earlier ones are written, each by a
    thread of its own. An error in one scan ends up in its record.

    Raises:
        BatchStopped: if the output folder is full or cannot be written to.
    """
    reading, writing = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "write")
    in_writing: deque[tuple[CaseRun, Future[Any] | None]] = deque()
    try:
        for case, coming in _read_ahead(segmenter, scans, fingerprint, reading):
            batch = coming.pop().result()  # nothing else holds it: the scan's memory goes as soon as it can
            said = None if batch is None else case.infer(segmenter, batch)
            in_writing.append((case, None if said is None else writing.submit(case.write, segmenter, said)))
            del batch, said
            while len(in_writing) > AHEAD:
                yield _record(*in_writing.popleft())
        while in_writing:
            yield _record(*in_writing.popleft())
    finally:
        for pool in (reading, writing):
            pool.shutdown(cancel_futures=True)


def _record(case: CaseRun, writing: Future[Any] | None) -> CaseRecord:
    return case.record(None if writing is None else writing.result())


def _read_ahead(
    segmenter: CaseSegmenter, scans: Iterable[Path], fingerprint: str, reading: ThreadPoolExecutor
) -> Iterator[tuple[CaseRun, list[Future[Any]]]]:
    """Yield cases, each with a list of the one future of its reading, which the caller takes out."""
    waiting: deque[tuple[CaseRun, list[Future[Any]]]] = deque()
    for scan in scans:
        case = CaseRun(scan, fingerprint)
        waiting.append((case, [reading.submit(case.read, segmenter)]))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting
