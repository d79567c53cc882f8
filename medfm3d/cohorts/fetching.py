"""Fetching a cohort by its manifest: download, verify, unpack, and leave a receipt of what was fetched."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medfm3d.cohorts.archive import unpack_archive
from medfm3d.cohorts.download import download_file
from medfm3d.cohorts.errors import ManifestError
from medfm3d.cohorts.manifest import CohortManifest, Download, load_manifest
from medfm3d.volumes import write_json

RECEIPT = "fetched.json"


@dataclass(frozen=True)
class FetchedFile:
    """A download that was completed; ``contents`` names what it left in the cohort's folder.

    ``verified`` is False where the manifest knows no checksum.
    """

    filename: str
    size_bytes: int
    sha256: str
    verified: bool
    contents: tuple[str, ...]


@dataclass(frozen=True)
class FetchReport:
    """What was fetched; ``cohort_folder`` is the only folder with a dataset.json, or None if there is not just one."""

    manifest: str
    folder: Path
    cohort_folder: Path | None
    files: tuple[FetchedFile, ...]
    already_there: bool
    remarks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON can hold."""
        cohort_folder = None if self.cohort_folder is None else str(self.cohort_folder)
        return asdict(self) | {"folder": str(self.folder), "cohort_folder": cohort_folder}


def fetch(
    name: str | Path | CohortManifest,
    destination: str | Path,
    *,
    keep_archives: bool = False,
    progress: bool = False,
    attempts: int = 6,
    backoff_s: float = 1.0,
) -> FetchReport:
    """Fetch a cohort into ``DESTINATION/NAME``; what is already there is not fetched again.

    Args:
        name: a manifest, its name, or a path to its JSON file.
        destination: the folder under which cohorts lie.
        keep_archives: keep the archives beside what was unpacked from them.
        progress: show a progress bar on the terminal.
        attempts: attempts in a row that bring nothing new before a download gives up.
        backoff_s: pause after the first failed attempt, in seconds.

    Raises:
        ManifestError: the cohort cannot be downloaded freely; the message says how to get it.
        DownloadError: a file could not be downloaded, or is not the one that the manifest describes.
        ArchiveError: an archive is broken or must not be unpacked.
    """
    manifest = name if isinstance(name, CohortManifest) else load_manifest(name)
    if not manifest.downloads:
        raise ManifestError(
            f"cohort {manifest.name} ({manifest.title}) cannot be fetched: {manifest.how_to_get} "
            f"See {manifest.homepage}"
        )
    folder = Path(destination) / manifest.name
    fetched = _read_receipt(folder)
    todo = [download for download in manifest.downloads if not _is_there(download, fetched, folder)]
    for download in todo:
        fetched[download.filename] = _fetch_file(download, folder, attempts, backoff_s, progress)
        _write_receipt(folder, fetched)
        if download.unpack and not keep_archives:
            (folder / download.filename).unlink()
    files = tuple(fetched[download.filename] for download in manifest.downloads)
    # A run that was killed may have left a hidden folder, with an archive half unpacked.
    datasets = [
        path for path in folder.glob("**/dataset.json") if not any(p[0] == "." for p in path.relative_to(folder).parts)
    ]
    return FetchReport(
        manifest=manifest.name,
        folder=folder,
        cohort_folder=datasets[0].parent if len(datasets) == 1 else None,
        files=files,
        already_there=not todo,
        remarks=tuple(_remarks(manifest, files)),
    )


def _fetch_file(download: Download, folder: Path, attempts: int, backoff_s: float, progress: bool) -> FetchedFile:
    file = download_file(
        download.url,
        folder / download.filename,
        checksum=download.checksum,
        size_bytes=download.size_bytes,
        attempts=attempts,
        backoff_s=backoff_s,
        progress=progress,
    )
    contents = unpack_archive(file.path, folder) if download.unpack else [file.path]
    names = tuple(path.name for path in contents)
    return FetchedFile(download.filename, file.size_bytes, file.sha256, file.verified, names)


def _is_there(download: Download, fetched: Mapping[str, FetchedFile], folder: Path) -> bool:
    """Whether the file was fetched, verified if the manifest now knows a checksum, and nothing of it was removed."""
    file = fetched.get(download.filename)
    return (
        file is not None
        and (file.verified or download.checksum is None)
        and all((folder / name).exists() for name in file.contents)
    )


def _remarks(manifest: CohortManifest, files: tuple[FetchedFile, ...]) -> list[str]:
    notes = {download.filename: download.checksum_note for download in manifest.downloads}
    return [
        f"{file.filename}: its checksum is not verified ({notes[file.filename]}); its sha256 is {file.sha256}"
        for file in files
        if not file.verified
    ]


def _read_receipt(folder: Path) -> dict[str, FetchedFile]:
    path = folder / RECEIPT
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {entry["filename"]: FetchedFile(**entry | {"contents": tuple(entry["contents"])}) for entry in entries}
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{path}: not a receipt of an earlier fetch ({error}): remove it to fetch again") from error


def _write_receipt(folder: Path, fetched: Mapping[str, FetchedFile]) -> None:
    write_json([asdict(file) for file in fetched.values()], folder / RECEIPT)
