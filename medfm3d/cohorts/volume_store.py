"""A store of prepared volumes: few large files, of which a window's chunks alone are read.

A store is a folder. `store.json` says how its volumes were prepared; each `shard_00000.b2` holds volumes one behind the
other, each a Blosc2 frame (https://www.blosc.org, "Contiguous frame format") of compressed chunks; `shard_00000.json`
lists the shard's volumes with their places, its size and its SHA-256, and the scans that were left out. A shard's list
is written last: a shard without one is not whole.
"""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medfm3d.cohorts.download import file_digests
from medfm3d.volumes import VolumeError

FORMAT = "medfm3d-volume-store-1"
STORE_FILE = "store.json"


@dataclass(frozen=True)
class StoredVolume:
    """A volume in a shard; indexing it with slices reads and decompresses the chunks under them alone.

    Attributes:
        shard: the shard's file.
        offset: first byte of the volume's frame in it.
        shape: (1, I, J, K).
        source: the scan's path when it was stored.
    """

    shard: Path
    offset: int
    shape: tuple[int, ...]
    source: str

    def __getitem__(self, slices: tuple[slice, ...]) -> Tensor:
        """Return a part of the volume, float16.

        Raises:
            VolumeError: if the shard is missing or broken.
        """
        import blosc2

        try:
            # One thread: data loaders have their own processes, and threads do not survive their forking.
            array = blosc2.open(str(self.shard), mode="r", offset=self.offset, dparams={"nthreads": 1})
            return torch.from_numpy(array[slices])
        except (OSError, RuntimeError) as error:
            raise VolumeError(
                f"{self.shard}: {self.source} cannot be read ({error}); remove this shard and its list, and store again"
            ) from error


class VolumeStore:
    """A store as it lies on disk.

    Args:
        folder: the store's folder.

    Raises:
        VolumeError: if it is no store, or storing was cut off.
        ModuleNotFoundError: if Blosc2 is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        require_blosc2()
        self.folder = Path(folder)
        content = read_store_file(self.folder)
        if not content["complete"]:
            raise VolumeError(f"{self.folder}: storing was cut off; run `medfm3d data shard` again, it goes on")
        self.settings: Mapping[str, Any] = content["settings"]
        self.shards = read_shard_lists(self.folder)
        if len(self.shards) != content["shards"]:
            raise VolumeError(
                f"{self.folder}: lists {content['shards']} shards, but {len(self.shards)} are there; copy it again"
            )

    @property
    def volumes(self) -> list[StoredVolume]:
        """All volumes, in the order of the shards."""
        return [
            StoredVolume(self.folder / shard["file"], entry["offset"], tuple(entry["shape"]), entry["source"])
            for shard in self.shards
            for entry in shard["volumes"]
        ]

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """`source` and `error` of each scan that was left out."""
        return [entry for shard in self.shards for entry in shard["skipped"]]

    def verify(self) -> None:
        """Compare every shard with its checksum; raise VolumeError that names the first that differs."""
        for shard in self.shards:
            file = self.folder / shard["file"]
            if not file.is_file() or file_digests(file, ["sha256"])["sha256"] != shard["sha256"]:
                raise VolumeError(f"{file}: missing, or not what was stored; copy it again, or store again")


def is_store(folder: str | Path) -> bool:
    """Return whether a folder holds a store, whole or not."""
    return (Path(folder) / STORE_FILE).is_file()


def read_store_file(folder: Path) -> dict[str, Any]:
    """Return the content of `store.json`; raise VolumeError if it is missing or of another format."""
    file = folder / STORE_FILE
    if not file.is_file():
        raise VolumeError(f"{folder}: holds no {STORE_FILE}; make a store with `medfm3d data shard`")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise VolumeError(f"{file}: is no JSON ({error}); store again in a new folder") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise VolumeError(f"{file}: is not of format {FORMAT}; store again with this version of medfm3d")
    return content


def read_shard_lists(folder: Path) -> list[dict[str, Any]]:
    """Return the lists of all shards that are whole, by number."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("shard_*.json"))]


def require_blosc2() -> None:
    """Raise ModuleNotFoundError that says what to install, if Blosc2 is not there."""
    if importlib.util.find_spec("blosc2") is None:
        raise ModuleNotFoundError('sharded stores need blosc2: pip install "medfm3d[shards]"')
