"""Preprocessed volumes on disk: a MONAI persistent dataset whose keys are the content of the files and the parameters.

A changed file or a changed parameter gives a new entry, whatever the file's name and date; the same scan under
another name shares its entry, unless metadata are kept, which name the file. Entries are never changed: remove the
folder to free the room.
"""

import codecs
import hashlib
import json
import pickle
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import PersistentDataset
from monai.utils import MetaKeys, SpaceKeys, TraceKeys, convert_to_tensor

from medfm3d import __version__
from medfm3d.cohorts.download import file_digests
from medfm3d.cohorts.errors import CohortError
from medfm3d.cohorts.parameter_description import describe_parameters
from medfm3d.volumes.scan_files import scan_files

# What torch.load raises for a file that was cut short or overwritten; anything else is not about the entry.
_BROKEN_ENTRY = (RuntimeError, EOFError, pickle.UnpicklingError)

# Metadata hold NumPy values of plain types and MONAI's keys, which torch.load must be told to trust; objects stay
# untrusted.
_TRUSTED = [
    TraceKeys,
    MetaKeys,
    SpaceKeys,
    np.ndarray,
    np.dtype,
    np.zeros(0).__reduce__()[0],
    np.float64(0).__reduce__()[0],
    codecs.encode,
    *{type(np.dtype(code)) for code in np.typecodes["All"].replace("O", "")},
]


class ContentHash:
    """``hash_func`` for a MONAI persistent dataset: the bytes of an item's files, and its other values.

    ``with_paths`` makes the files' paths a part of it. Digests are kept while a file's size and date stay as they are,
    so a file is not read through again in every epoch.
    """

    def __init__(self, file_keys: Sequence[str] = ("image", "label"), *, with_paths: bool = False):
        self.file_keys = tuple(file_keys)
        self.with_paths = with_paths
        self._digests: dict[tuple[str, int, int, int], str] = {}

    def __call__(self, item: Mapping[str, Any]) -> bytes:
        """Hexadecimal SHA-256 of the item, as MONAI wants it.

        Raises:
            CohortError: a file of the item does not exist.
        """
        content = {key: value for key, value in item.items() if key not in self.file_keys or value is None}
        paths = {key: Path(item[key]) for key in self.file_keys if item.get(key) is not None}
        files = {key: self._path_digest(path) for key, path in paths.items()}
        named = {key: str(path) for key, path in paths.items()} if self.with_paths else {}
        return _digest({"files": files, "paths": named, "values": describe_parameters(content)}).encode()

    def _path_digest(self, path: Path) -> str:
        files = scan_files(path) or [path]  # which is told to be absent when it is read
        digests = [self._file_digest(file) for file in files]
        return digests[0] if files == [path] else _digest(digests)

    def _file_digest(self, path: Path) -> str:
        try:
            status = path.stat()
        except FileNotFoundError:
            raise CohortError(f"{path}: does not exist: the cohort was moved or is incomplete") from None
        key = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
        if key not in self._digests:
            self._digests[key] = file_digests(path, ["sha256"])["sha256"]
        return self._digests[key]


def transform_hash(transforms: Sequence[Callable[..., Any]]) -> bytes:
    """``hash_transform`` for a MONAI persistent dataset: class and parameters of each, MONAI's version and ours.

    Raises:
        CohortError: a transform has a parameter that has no description that is the same in every run.
    """
    return _digest([monai.__version__, __version__, describe_parameters(list(transforms))]).encode()


class ContentKeyedCache(PersistentDataset):
    """A dataset that does the deterministic transforms once and keeps their results on disk.

    Args:
        data: items as for any MONAI dictionary dataset.
        transform: transforms; those before the first random one are cached.
        cache_dir: folder of the entries; several datasets and processes may share it.
        file_keys: keys of an item that hold paths to files or DICOM series folders.
        track_meta: keep affine and metadata (MetaTensor) in the entries.

    Raises:
        CohortError: a transform cannot be described, or, when an item is taken, a file of it does not exist.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Sequence[Callable[..., Any]] | Callable[..., Any],
        cache_dir: str | Path,
        *,
        file_keys: Sequence[str] = ("image", "label"),
        track_meta: bool = True,
    ):
        super().__init__(
            data=data,
            transform=transform,
            cache_dir=cache_dir,
            hash_func=ContentHash(file_keys, with_paths=track_meta),
            hash_transform=transform_hash,
            track_meta=track_meta,
        )

    def set_data(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Replace the items; entries stay, since their keys tell them apart."""
        self.data = data

    def entry_path(self, item: Mapping[str, Any]) -> Path:
        """Where the entry of an item lies, or will lie."""
        parameters = f"{self.transform_hash}-{self.track_meta}"
        return self.cache_dir / f"{_digest([self.hash_func(item).decode(), parameters])}.pt"

    def _cachecheck(self, item_transformed: Mapping[str, Any]) -> Any:
        entry = self.entry_path(item_transformed)
        if entry.is_file():
            try:
                with torch.serialization.safe_globals(_TRUSTED):
                    return torch.load(entry, weights_only=True)
            except _BROKEN_ENTRY as error:
                if "Unsupported global" in str(error):  # whole, but never readable: making it anew would not help
                    raise CohortError(
                        f"{entry}: a cached result holds objects that are not plain values ({error}): "
                        "take them out with a transform, or use track_meta=False"
                    ) from error
                warnings.warn(f"{entry}: broken cache entry, made anew ({error})", stacklevel=2)
        prepared = convert_to_tensor(
            self._pre_transform(deepcopy(item_transformed)), convert_numeric=False, track_meta=self.track_meta
        )
        # MONAI writes to the system's temporary folder and moves from there, which is a copy between two file systems
        # that another process can see half done. Beside the entry, the replacement is atomic.
        temporary = entry.with_name(f".writing-{uuid.uuid4().hex}.pt")
        try:
            torch.save(prepared, temporary)
            temporary.replace(entry)
        finally:
            temporary.unlink(missing_ok=True)
        return prepared


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
