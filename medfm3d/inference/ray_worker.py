"""What a worker of the ray engine does, in a process of its own, maybe on another machine."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from monai.utils import set_determinism

from medfm3d.inference.batch_journal import CaseRecord
from medfm3d.inference.batch_stopped import BatchStopped
from medfm3d.inference.bundle_writer import BundleError
from medfm3d.inference.case_run import CaseRun
from medfm3d.inference.case_segmenter import CaseSegmenter
from medfm3d.segmentation import resolve_device
from medfm3d.volumes.whole_file import WRITER


class SegmentationWorker:
    """A case segmenter whose steps overlap when several threads ask for cases at once, as those of the local engine do.

    Args:
        bundle: an adapted bundle.
        values: as of `CaseSegmenter`, without the device.
        device: where to compute.
        seed: of everything random.
        fingerprint: of bundle and options, for the records.
        folder: working directory, so that relative paths mean what they mean to the driver.
        landmark: a file that is there if this machine sees the same output folder as the driver.
    """

    def __init__(
        self,
        bundle: Path,
        values: Mapping[str, Any],
        device: str,
        seed: int,
        fingerprint: str,
        folder: Path,
        landmark: Path,
    ) -> None:
        self.bundle, self.values, self.device, self.seed = bundle, values, device, seed
        self.fingerprint = fingerprint
        self.folder, self.landmark = folder, landmark
        self.reading, self.inferring, self.writing = Lock(), Lock(), Lock()

    def open(self) -> str:
        """Load the bundle and return this process's mark as a writer of files.

        Raises:
            BundleError: if the bundle cannot be loaded, or files are not where the driver sees them.
        """
        here = socket.gethostname()
        if not self.folder.is_dir():
            raise BundleError(f"{self.folder}: no such folder on {here}; start from a folder that all machines share")
        os.chdir(self.folder)
        if not self.landmark.is_file():
            raise BundleError(
                f"{self.landmark.parent}: not shared with {here}; write to a folder that all machines share"
            )
        set_determinism(seed=self.seed)
        self.segmenter = CaseSegmenter(self.bundle, {**self.values, "device": resolve_device(self.device)})
        return WRITER

    def segment(self, scan: Path) -> CaseRecord | BatchStopped:
        """Return what became of a scan, or why no other one can be done either."""
        case = CaseRun(scan, self.fingerprint)
        written = None
        try:
            with self.reading:
                batch = case.read(self.segmenter)
            if batch is not None:
                with self.inferring:
                    said = case.infer(self.segmenter, batch)
                del batch
                if said is not None:
                    with self.writing:
                        written = case.write(self.segmenter, said)
            return case.record(written)
        except BatchStopped as stopped:
            return stopped
