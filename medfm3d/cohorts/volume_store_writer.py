"""Writing a store of prepared volumes, shard by shard; see `volume_store` for the format."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from medfm3d.cohorts.download import file_digests
from medfm3d.cohorts.volume_store import (
    FORMAT,
    STORE_FILE,
    is_store,
    read_shard_lists,
    read_store_file,
    require_blosc2,
)
from medfm3d.volumes import VolumeError, write_json

CHUNK = 64  # voxels: Blosc2 looks up a chunk in the frame's index,
BLOCK = 32  # and reads and decompresses the blocks of it that a window touches, 64 KB each


@dataclass(frozen=True)
class SourceFile:
    """A scan as it was when it was stored: path, and size and date (of the newest file of a DICOM folder)."""

    source: str
    size: int
    mtime_ns: int

    @staticmethod
    def of(path: Path) -> "SourceFile":
        """Return the description of a file or DICOM series folder as it is now."""
        files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
        states = [file.stat() for file in files]
        size, newest = sum(state.st_size for state in states), max((s.st_mtime_ns for s in states), default=0)
        return SourceFile(str(path.resolve()), size, newest)


def open_for_writing(folder: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Begin a store, or go on with one; return the lists of the shards that are whole already.

    Args:
        folder: the store's folder; made if it is not there.
        settings: how its volumes are prepared, JSON values.

    Raises:
        VolumeError: if the folder holds a store of other settings, or other files.
        ModuleNotFoundError: if Blosc2 is not installed.
    """
    require_blosc2()
    if is_store(folder):
        there = read_store_file(folder)["settings"]
        differing = sorted(key for key in {*there, *settings} if there.get(key) != settings.get(key))
        if differing:
            raise VolumeError(
                f"{folder}: holds a store that was prepared with another {', '.join(differing)}; name a new folder"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise VolumeError(f"{folder}: holds files, but no store; name a new folder")
    for leftover in folder.glob(".shard_*.partial"):
        leftover.unlink()
    _write_store_file(folder, settings, complete=False, shards=[])
    return read_shard_lists(folder)


def finish(folder: Path, settings: Mapping[str, Any]) -> None:
    """Mark a store as complete."""
    _write_store_file(folder, settings, complete=True, shards=read_shard_lists(folder))


def write_shard(
    folder: Path, number: int, prepared: Iterable[tuple[SourceFile, Tensor | VolumeError]]
) -> dict[str, Any]:
    """Write one shard and then its list; whatever a shard of that number left behind is replaced.

    Args:
        folder: the store's folder.
        number: the shard's, from 0.
        prepared: scans with their volumes, (1, I, J, K) float16, or with the error for which they are left out.

    Returns:
        The list.
    """
    import blosc2

    file = folder / f"shard_{number:05d}.b2"
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    volumes, skipped = [], []
    packing = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
    try:
        with partial.open("wb") as opened:
            for source, volume in prepared:
                if isinstance(volume, VolumeError):
                    skipped.append({**vars(source), "error": str(volume)})
                    continue
                chunks, blocks = ([1, *(min(side, most) for side in volume.shape[1:])] for most in (CHUNK, BLOCK))
                frame = blosc2.asarray(volume.numpy(), chunks=chunks, blocks=blocks, cparams=packing).to_cframe()
                place = {"offset": opened.tell(), "bytes": len(frame), "shape": list(volume.shape)}
                volumes.append({**vars(source), **place})
                opened.write(frame)
            opened.flush()
            os.fsync(opened.fileno())
        content = {
            "file": file.name,
            "bytes": partial.stat().st_size,
            "sha256": file_digests(partial, ["sha256"])["sha256"],
            "volumes": volumes,
            "skipped": skipped,
        }
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    write_json(content, file.with_suffix(".json"))
    return content


def _write_store_file(folder: Path, settings: Mapping[str, Any], *, complete: bool, shards: list[Any]) -> None:
    content = {
        "format": FORMAT,
        "complete": complete,
        "settings": dict(settings),
        "shards": len(shards),
        "volumes": sum(len(shard["volumes"]) for shard in shards),
        "skipped": sum(len(shard["skipped"]) for shard in shards),
        "bytes": sum(shard["bytes"] for shard in shards),
    }
    write_json(content, folder / STORE_FILE)
