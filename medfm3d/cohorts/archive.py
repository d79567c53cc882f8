"""Unpacking archives from the network: every member is judged before the first is written.

Cohorts consist of files and folders. A member that is anything else, a link included, or whose path is absolute or
climbs out of the folder makes the whole archive an error (CVE-2007-4559 and its kin; without links, none of the ways
around tarfile's own filter is open either).
"""

import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

from medfm3d.cohorts.errors import ArchiveError

# zipfile raises RuntimeError for encrypted members and unknown compressions, bz2 and gzip raise OSError.
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


def unpack_archive(archive: str | Path, destination: str | Path) -> list[Path]:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into a folder, all of it or nothing.

    It is unpacked into a temporary folder beside its final place and then moved, so an interrupted run leaves no half
    cohort.

    Returns:
        The top-level files and folders that came out of it.

    Raises:
        ArchiveError: the archive is broken, a member must not be unpacked, there is not enough room, or something of
            the same name is already there.
    """
    archive, destination = Path(archive), Path(destination)
    destination.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=destination))
    try:
        try:
            _extract(archive, workplace)
        except _BROKEN as error:
            raise ArchiveError(
                f"{archive}: cannot be unpacked ({error}): if it is broken, download it again"
            ) from error
        entries = sorted(workplace.iterdir())
        if taken := [entry.name for entry in entries if (destination / entry.name).exists()]:
            raise ArchiveError(f"{archive}: {', '.join(taken)} already exists in {destination}: move it away first")
        return [entry.replace(destination / entry.name) for entry in entries]
    finally:
        shutil.rmtree(workplace)


def _extract(archive: Path, folder: Path) -> None:
    if tarfile.is_tarfile(archive):
        if not hasattr(tarfile, "data_filter"):  # came with 3.10.12 and 3.11.4
            raise ArchiveError(f"{archive}: this Python's tarfile cannot unpack safely: update Python")
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            _check_members(archive, [(member.name, member.isfile() or member.isdir()) for member in members])
            _check_room(archive, folder, sum(member.size for member in members))
            tar.extractall(folder, members, filter="data")  # the filter also drops owners and set-uid bits
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            infos = zipped.infolist()
            _check_members(archive, [(info.filename, _is_plain(info)) for info in infos])
            _check_room(archive, folder, sum(info.file_size for info in infos))
            zipped.extractall(folder)
    else:
        raise ArchiveError(f"{archive}: is neither a tar nor a zip archive: download it again, or unpack it by hand")


def _is_plain(info: zipfile.ZipInfo) -> bool:
    # The upper half holds the Unix mode; archives made elsewhere leave it 0.
    return stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)


def _check_members(archive: Path, members: list[tuple[str, bool]]) -> None:
    """Refuse the archive for any of its members, given as name and whether it is a file or a folder."""
    faults = []
    for name, plain in members:
        path = PureWindowsPath(name)  # splits at / and \ alike
        if path.anchor:
            faults.append(f"{name!r} is an absolute path")
        elif ".." in path.parts:
            faults.append(f"{name!r} leaves the folder")
        elif not plain:
            faults.append(f"{name!r} is a link, a device or another special file")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ArchiveError(
            f"{archive}: nothing was unpacked, for {'; '.join(faults[:5])}{more}: do not trust this file"
        )


def _check_room(archive: Path, folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise ArchiveError(
            f"{archive}: unpacks to {needed_bytes / 1e9:.1f} GB, but {folder.parent} has {free_bytes / 1e9:.1f} GB: "
            "make room or choose another folder"
        )
