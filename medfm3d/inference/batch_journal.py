"""What a folder of masks holds already, so that an interrupted batch can go on."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medfm3d import __version__
from medfm3d.cohorts.preprocessed_cache import ContentHash
from medfm3d.inference.batch_stopped import BatchStopped
from medfm3d.volumes.scan_files import scan_files

JOURNAL = "segmentation_journal.jsonl"
_ALL_JOURNALS = "segmentation_journal*.jsonl"


@dataclass(frozen=True)
class CaseRecord:
    """What became of one scan.

    Attributes:
        scan: its path.
        stamp: sizes and times of the scan's files when it was read.
        fingerprint: of the bundle and the options that it was segmented with.
        mask: the mask file, or None if there is none.
        volumes_ml: volume of each organ.
        remarks: what surprises the bundle's priors, as `list_remarks` gives it.
        seconds: what reading, inference and writing took, by name.
        error: why there is no mask.
        finished: when that was so, in seconds since 1970.
        mask_digest: of the mask file as it was written, see `content_digest`.
    """

    scan: str
    stamp: str
    fingerprint: str
    mask: str | None = None
    volumes_ml: dict[str, float] = field(default_factory=dict)
    remarks: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    finished: float = 0.0
    mask_digest: str | None = None


class BatchJournal:
    """A file in the folder of masks with a line for each scan that is done or has failed.

    A line is written after the mask, which itself appears whole or not at all. So a scan without a line is done again,
    and a last line that was cut off counts as none. Before the first mask comes a line that names all that are to be
    made, by which those that a killed process left are known as its own. Each shard of a batch writes a journal of its
    own, and all are read together: what another has done need not be done again.

    Args:
        output: folder of masks.
        fingerprint: of the bundle and options at hand, see `fingerprint`.
        name: of the file that is written to.
    """

    def __init__(self, output: str | Path, fingerprint: str, name: str = JOURNAL) -> None:
        self.file = Path(output) / name
        self.fingerprint = fingerprint

    def records(self) -> list[CaseRecord]:
        """Return the last record of each scan, in the order in which they were finished."""
        last: dict[str, CaseRecord] = {}
        for record in self._all_records():
            last.pop(record.scan, None)
            last[record.scan] = record
        return list(last.values())

    def makers(self) -> dict[str, CaseRecord]:
        """Return for each mask, by its file name, the record of the scan that it was last made of."""
        return {Path(record.mask).name: record for record in self._all_records() if record.mask is not None}

    def begun(self) -> dict[str, float]:
        """Return when each mask, by its file name, was last about to be made, in seconds since 1970."""
        begun: dict[str, float] = {}
        for line in self._lines():
            names, at = line.get("begun"), line.get("at")
            if isinstance(names, list) and isinstance(at, float):
                begun |= {name: max(at, begun.get(name, at)) for name in names if isinstance(name, str)}
        return begun

    def of_this_batch(self, scans: Iterable[Path]) -> dict[Path, CaseRecord]:
        """Return the last records of scans that bundle and options at hand have done or failed with."""
        known = {record.scan: record for record in self.records()}
        return {
            scan: record
            for scan in scans
            if (record := known.get(str(scan))) and record.fingerprint == self.fingerprint
        }

    def done(self, scans: Iterable[Path]) -> dict[Path, CaseRecord]:
        """Return the records of those scans whose masks need not be made again.

        That is so if bundle, options and scan are what they were and the mask is there, and no other scan's since.
        """
        makers = self.makers()
        return {
            scan: record
            for scan, record in self.of_this_batch(scans).items()
            if record.mask is not None
            and makers[Path(record.mask).name] == record
            and Path(record.mask).is_file()
            and Path(record.mask).stat().st_size
            and record.stamp == scan_stamp(scan)
        }

    def begin(self, masks: Iterable[Path]) -> None:
        """Say which masks are about to be made; raises BatchStopped if that fails."""
        self._append({"begun": [mask.name for mask in masks], "at": time.time()})

    def add(self, record: CaseRecord) -> None:
        """Append a record, in one write; raises BatchStopped if that fails."""
        self._append(asdict(record))

    def _all_records(self) -> list[CaseRecord]:
        """Return all records of all journals, in the order in which they were finished."""
        found = []
        for line in self._lines():
            try:
                found.append(CaseRecord(**line))
            except TypeError:
                continue  # of masks that were begun, or of another version: that scan is done again
        return sorted(found, key=lambda record: record.finished)

    def _lines(self) -> Iterator[dict[str, Any]]:
        for file in sorted(file for file in self.file.parent.glob(_ALL_JOURNALS) if file.is_file()):
            for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    content = json.loads(line)
                except json.JSONDecodeError:
                    continue  # cut off
                if isinstance(content, dict):
                    yield content

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:
                if file.tell() and not _ends_a_line(self.file):
                    file.write(b"\n")  # what an earlier process left unfinished
                file.write((json.dumps(line) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BatchStopped(f"{self.file}: cannot be written to ({error}); make room, then go on") from error


def fingerprint(bundle: str | Path, options: Mapping[str, Any]) -> str:
    """Return a hash of all that masks depend on but the scan: weights, configs, priors, options and version."""
    digest = hashlib.sha256()
    bundle = Path(bundle)
    for name in ("models/model.pt", "models/priors.json", "configs/inference.json"):
        file = bundle / name
        digest.update(hashlib.sha256(file.read_bytes() if file.is_file() else b"").digest())
    digest.update(json.dumps([__version__, dict(options)], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def scan_stamp(scan: str | Path) -> str:
    """Return a hash of names, sizes and times of change of a scan's files; see `scan_files`."""
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in scan_files(scan)]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()


def content_digest(scan: str | Path) -> str:
    """Return a hash of the content of a scan's or mask's files; see `scan_files`."""
    return ContentHash(["scan"])({"scan": scan}).decode()


def _ends_a_line(file: Path) -> bool:
    with file.open("rb") as reading:
        reading.seek(-1, 2)
        return reading.read(1) == b"\n"
