"""Unpacking archives from the network: every member is judged before the first is written.

A member that is absolute, that climbs out of the folder, that is a link to elsewhere, that lies upon or beneath a
link, or that is a device makes the whole archive an error (CVE-2007-4559 and its kin).
"""

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path, PurePosixPath, PureWindowsPath

from medfm3d.cohorts.errors import ArchiveError

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


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
            raise ArchiveError(f"{archive}: cannot be unpacked ({error}): download it again") from error
        entries = sorted(workplace.iterdir())
        if taken := [entry.name for entry in entries if (destination / entry.name).exists()]:
            raise ArchiveError(f"{archive}: {', '.join(taken)} already exists in {destination}: move it away first")
        for entry in entries:
            entry.replace(destination / entry.name)
        return [destination / entry.name for entry in entries]
    finally:
        shutil.rmtree(workplace)


def _extract(archive: Path, folder: Path) -> None:
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            _refuse(archive, tar_faults(members))
            _require_room(archive, folder, sum(member.size for member in members))
            # The filter also drops owners and set-uid bits; Pythons before 3.10.12 and 3.11.4 lack it.
            tar.extractall(folder, members, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            infos = zipped.infolist()
            _refuse(archive, zip_faults(infos))
            _require_room(archive, folder, sum(info.file_size for info in infos))
            zipped.extractall(folder)
    else:
        raise ArchiveError(f"{archive}: is neither a tar nor a zip archive: download it again, or unpack it by hand")


def _refuse(archive: Path, faults: list[str]) -> None:
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ArchiveError(
            f"{archive}: nothing was unpacked, for {'; '.join(faults[:5])}{more}: do not trust this file"
        )


def _require_room(archive: Path, folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise ArchiveError(
            f"{archive}: unpacks to {needed_bytes / 1e9:.1f} GB, but {folder.parent} has {free_bytes / 1e9:.1f} GB: "
            "make room or choose another folder"
        )


def tar_faults(members: list[tarfile.TarInfo]) -> list[str]:
    """Why these members must not be unpacked, as sentences; empty when they may."""
    links = {_parts(member.name) for member in members if member.issym() or member.islnk()}
    faults = [fault for member in members for fault in _path_faults(member.name)]
    for member in members:
        if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
            faults.append(f"{member.name!r} is a device or another special file")
        elif member.issym() or member.islnk():
            faults += _link_faults(member, links)
        if any(_parts(member.name)[:depth] in links for depth in range(1, len(_parts(member.name)))):
            faults.append(f"{member.name!r} lies beneath a link")
    return faults + _repetitions(member.name for member in members if not member.isdir())


def zip_faults(infos: list[zipfile.ZipInfo]) -> list[str]:
    """Why these members must not be unpacked, as sentences; empty when they may."""
    faults = [fault for info in infos for fault in _path_faults(info.filename)]
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            faults.append(f"{info.filename!r} is a link, a device or another special file")
        if info.flag_bits & 0x1:
            faults.append(f"{info.filename!r} is encrypted")
    return faults + _repetitions(info.filename for info in infos if not info.is_dir())


def _path_faults(name: str) -> Iterator[str]:
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root:
        yield f"{name!r} is an absolute path"
    elif ".." in windows.parts or ".." in PurePosixPath(name).parts:
        yield f"{name!r} leaves the folder"


def _link_faults(member: tarfile.TarInfo, links: set[tuple[str, ...]]) -> list[str]:
    # A symbolic link counts from its own folder, a hard link from the top of the archive.
    start = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
    target = os.path.normpath(start / member.linkname)
    if _parts(target)[:1] == ("..",) or PurePosixPath(target).is_absolute() or PureWindowsPath(member.linkname).drive:
        return [f"{member.name!r} is a link out of the folder, to {member.linkname!r}"]
    if ".." in dropwhile("..".__eq__, PurePosixPath(member.linkname).parts):
        return [f"{member.name!r} is a link with a detour, to {member.linkname!r}"]
    parts = _parts(target)
    if any(parts[:depth] in links for depth in range(1, len(parts) + 1)):
        return [f"{member.name!r} is a link to or through another link"]
    return []


def _repetitions(names: Iterator[str]) -> list[str]:
    seen: set[tuple[str, ...]] = set()
    faults = []
    for name in names:
        if _parts(name) in seen:
            faults.append(f"{name!r} is in it more than once")
        seen.add(_parts(name))
    return faults


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(os.path.normpath(name)).parts
