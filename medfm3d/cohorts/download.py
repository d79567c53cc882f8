"""Downloading one large file: resumed where it stopped (RFC 9110, range requests), retried, verified by checksum."""

import hashlib
import shutil
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from medfm3d.cohorts.errors import DownloadError

_CHUNK_BYTES = 1 << 16  # what a chunk has when the connection breaks is lost
_LONGEST_PAUSE_S = 60.0
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class DownloadedFile:
    """A file that is wholly there. ``verified`` is False where no checksum was known to compare with."""

    path: Path
    size_bytes: int
    sha256: str
    verified: bool


class _PassingError(Exception):
    """Something that may be better at the next attempt; ``pause_s`` is how long the server asked to wait."""

    def __init__(self, message: str, pause_s: float = 0.0):
        super().__init__(message)
        self.pause_s = pause_s


def download_file(
    url: str,
    path: str | Path,
    *,
    checksum: str | None = None,
    size_bytes: int | None = None,
    attempts: int = 6,
    backoff_s: float = 1.0,
    timeout_s: float = 30.0,
    progress: bool = False,
) -> DownloadedFile:
    """Download a file, going on where an earlier attempt or an earlier run stopped.

    What has come lies in ``PATH.part`` until it is whole and verified. A part is continued only if the server says by
    its ETag or date that the file is still the same, or if a checksum will tell.

    Args:
        url: an http or https address.
        path: where the file shall lie; its folder is made.
        checksum: ``algorithm:hexadecimal`` with an algorithm of hashlib, or None where none is known.
        size_bytes: size that the file must have, where it is known.
        attempts: attempts in a row that bring nothing new before it gives up.
        backoff_s: pause after the first failed attempt; it doubles with each, up to a minute.
        timeout_s: longest silence of the server.
        progress: show a progress bar on the terminal.

    Raises:
        DownloadError: the server refuses, it stays silent, the disk is full, or the file is not the one described.
    """
    path = Path(path)
    if checksum is not None and checksum.partition(":")[0] not in hashlib.algorithms_available:
        raise DownloadError(f"{url}: checksum {checksum!r} is not algorithm:hexadecimal: correct the manifest")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return _verify(path, checksum, size_bytes, source=str(path), remove=False)
    part = path.with_name(path.name + ".part")
    with requests.Session() as session, _bar(progress) as bar:
        transfer = _Transfer(session, url, part, checksum is not None, size_bytes, timeout_s, bar)
        transfer.run(attempts, backoff_s)
    transfer.forget()
    found = _verify(part, checksum, size_bytes, source=url, remove=True)
    part.replace(path)
    return DownloadedFile(path, found.size_bytes, found.sha256, found.verified)


def file_digests(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Hexadecimal digests of a file's bytes, all in one reading."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            for digest in hashes.values():
                digest.update(block)
    return {name: digest.hexdigest() for name, digest in hashes.items()}


class _Transfer:
    """The bytes of one file on their way into ``part``."""

    def __init__(
        self,
        session: requests.Session,
        url: str,
        part: Path,
        has_checksum: bool,
        size_bytes: int | None,
        timeout_s: float,
        bar: Progress | None,
    ):
        self.session = session
        self.url = url
        self.part = part
        self.validator_file = part.with_name(part.name + ".validator")
        self.has_checksum = has_checksum
        self.size_bytes = size_bytes
        self.timeout_s = timeout_s
        self.bar = bar
        self.task = bar.add_task(part.name.removesuffix(".part"), total=None) if bar else None

    def run(self, attempts: int, backoff_s: float) -> None:
        failures, most = 0, self._size()
        while True:
            try:
                return self._attempt()
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                fault = _PassingError(str(error))
            except requests.RequestException as error:
                raise DownloadError(f"{self.url}: cannot be downloaded ({error}): check the address") from error
            except _PassingError as error:
                fault = error
            failures = 0 if self._size() > most else failures + 1
            most = max(most, self._size())
            if failures >= attempts:
                raise DownloadError(
                    f"{self.url}: {failures} attempts in a row brought nothing new ({fault}); "
                    f"{self._size()} bytes are kept in {self.part}: run it again to go on from there"
                ) from fault
            time.sleep(min(max(fault.pause_s, backoff_s * 2 ** max(failures - 1, 0)), _LONGEST_PAUSE_S))

    def forget(self) -> None:
        """Remove what was only needed to continue the part."""
        self.validator_file.unlink(missing_ok=True)

    def _attempt(self) -> None:
        if self.size_bytes is not None and self._size() == self.size_bytes:
            return  # whole since an earlier run, which ended before it was verified
        offset, headers = self._size(), {"Accept-Encoding": "identity"}  # compressed bytes could not be continued
        validator = self.validator_file.read_text() if self.validator_file.exists() else ""
        if offset and (validator or self.has_checksum):
            headers["Range"] = f"bytes={offset}-"
            if validator:
                headers["If-Range"] = validator
        else:
            offset = 0
        with self.session.get(self.url, headers=headers, stream=True, timeout=self.timeout_s) as response:
            if response.status_code == 416:  # nothing lies beyond our offset: the part is whole, or is of another file
                if response.headers.get("Content-Range") == f"bytes */{offset}":
                    return
                self.part.unlink()
                raise _PassingError("the part did not fit the file on the server and was discarded")
            if response.status_code in _PASSING_STATUS:
                raise _PassingError(f"HTTP status {response.status_code}", _asked_pause_s(response))
            if response.status_code not in (200, 206):
                raise DownloadError(
                    f"{self.url}: the server answers {response.status_code} {response.reason}: "
                    "check the address on the cohort's homepage"
                )
            start = _range_start(response) if response.status_code == 206 else 0
            if start not in (0, offset):
                raise _PassingError(f"the server sent bytes from {start}, not from {offset}")
            self._store(response, start)

    def _store(self, response: requests.Response, start: int) -> None:
        length = response.headers.get("Content-Length")
        # A server may send less than the range that was asked for (RFC 9110, 14.2): how long the whole file is, stands
        # behind the slash.
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        if response.status_code == 206 and whole.isdigit():
            total = int(whole)
        else:
            total = self.size_bytes if length is None else start + int(length)
        free_bytes = shutil.disk_usage(self.part.parent).free
        if total is not None and total - start > free_bytes:
            raise DownloadError(
                f"{self.url}: {(total - start) / 1e9:.1f} GB are still to come, but {self.part.parent} has "
                f"{free_bytes / 1e9:.1f} GB left: make room or choose another folder"
            )
        if start == 0:
            self._remember(response)
        if self.bar is not None:
            self.bar.update(self.task, total=total, completed=start)
        with self.part.open("ab" if start else "wb") as file:
            for block in response.iter_content(_CHUNK_BYTES):
                file.write(block)
                if self.bar is not None:
                    self.bar.advance(self.task, len(block))
        if total is not None and self._size() < total:
            raise _PassingError(f"the connection ended at {self._size()} of {total} bytes")

    def _remember(self, response: requests.Response) -> None:
        etag = response.headers.get("ETag", "")
        # RFC 9110, 13.1.5: a weak ETag must not be used to continue a part.
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        if validator:
            self.validator_file.write_text(validator)
        else:
            self.validator_file.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _verify(path: Path, checksum: str | None, size_bytes: int | None, *, source: str, remove: bool) -> DownloadedFile:
    algorithm, _, expected = (checksum or "").partition(":")
    digests = file_digests(path, {"sha256", algorithm} - {""})
    size = path.stat().st_size
    fault = None
    if checksum is not None and digests[algorithm] != expected.lower():
        fault = f"its {algorithm} is {digests[algorithm]}, but {expected} is expected"
    elif size_bytes is not None and size != size_bytes:
        fault = f"it has {size} bytes, but {size_bytes} are expected"
    if fault is None:
        return DownloadedFile(path, size, digests["sha256"], verified=checksum is not None)
    if remove:
        path.unlink()
        raise DownloadError(
            f"{source}: not the file that is described, {fault}; it was removed: see the cohort's homepage"
        )
    raise DownloadError(f"{source}: exists, but is not the file that is described, {fault}: move it away and run again")


def _range_start(response: requests.Response) -> int:
    found = response.headers.get("Content-Range", "")
    try:
        return int(found.removeprefix("bytes ").split("-")[0])
    except ValueError:
        raise _PassingError(f"the server sent an unreadable Content-Range {found!r}") from None


def _asked_pause_s(response: requests.Response) -> float:
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0


def _bar(progress: bool) -> AbstractContextManager[Progress | None]:
    if not progress:
        return nullcontext()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),  # standard output is for results
    )
