"""One scan on its way through a segmenter, whatever drives it."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from medfm3d.inference.batch_journal import CaseRecord, content_digest, scan_stamp
from medfm3d.inference.batch_stopped import BatchStopped
from medfm3d.inference.bundle_writer import BundleError
from medfm3d.inference.case_segmenter import CaseSegmenter
from medfm3d.volumes import VolumeError, output_name
from medfm3d.volumes.errors import causes

LONGEST_NAME = (
    215  # bytes of a case's name; file systems take 255, of which suffixes such as _transductive.json need some
)
_NO_USE_GOING_ON = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class CaseRun:
    """What became of one scan so far: its times, and its error if a step failed.

    The steps are to be done in their order; each returns None if it failed, and the later ones are left out then.

    Args:
        scan: its path.
        fingerprint: of bundle and options, for the record.
    """

    def __init__(self, scan: Path, fingerprint: str) -> None:
        self.scan, self.fingerprint = scan, fingerprint
        self.seconds: dict[str, float] = {}
        self.error: BaseException | None = None
        self.stamp = ""

    def read(self, segmenter: CaseSegmenter) -> Any:
        """Return the scan, ready for the network."""

        def stamped(scan: Path) -> Any:
            if len(os.fsencode(output_name(scan))) > LONGEST_NAME:
                raise VolumeError(
                    f"{scan}: its name has over {LONGEST_NAME} bytes, too many for files beside its mask; shorten it"
                )
            self.stamp = scan_stamp(scan)  # before it is read: a scan that changes meanwhile is done again
            return segmenter.read(scan)

        return self._take("read", stamped, self.scan)

    def infer(self, segmenter: CaseSegmenter, batch: Any) -> Any:
        """Return what the network says of it."""
        return self._take("infer", segmenter.infer, batch)

    def write(self, segmenter: CaseSegmenter, said: Any) -> Any:
        """Write its mask and return what `CaseSegmenter.write` does; raises BatchStopped if the disk is full."""
        return self._take("write", segmenter.write, said)

    def record(self, written: Any) -> CaseRecord:
        """Return what the journal keeps, of what `write` returned or of the error."""
        if written is None:
            return self.failed(self._explained())
        mask, volumes_ml, remarks = written
        return CaseRecord(
            str(self.scan),
            self.stamp,
            self.fingerprint,
            str(mask),
            volumes_ml,
            remarks,
            self.seconds,
            finished=time.time(),
            mask_digest=content_digest(mask),
        )

    def failed(self, what: str) -> CaseRecord:
        """Return the record of a scan without a mask."""
        return CaseRecord(
            str(self.scan), self.stamp, self.fingerprint, seconds=self.seconds, error=what, finished=time.time()
        )

    def _explained(self) -> str:
        error, step = self.error, next(reversed(self.seconds))
        if isinstance(error, VolumeError | BundleError):
            return f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            what = f"{self.scan}: memory ran out in step {step!r} ({error or type(error).__name__})"
            return f"{type(error).__name__}: {what}; give it a machine with more, or make the scan smaller"
        return f"{type(error).__name__}: {self.scan}: step {step!r} failed ({error})"

    def _take(self, step: str, work: Callable[..., Any], *arguments: Any) -> Any:
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


def _reason(error: BaseException) -> BaseException:
    """Return what explains an error best: of those that it wraps, as MONAI does, ours if there is one, or the first."""
    chain = causes(error)
    return next((one for one in chain if isinstance(one, VolumeError | BundleError | MemoryError)), chain[-1])
