"""Where imported weights lie, and finding an encoder by name."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medfm3d.encoders.public_weights.catalogue import read_catalogue
from medfm3d.encoders.registry import ENCODERS
from medfm3d.encoders.weights import WeightsError, read_header

VARIABLE = "MEDFM3D_WEIGHTS"


@dataclass(frozen=True)
class PretrainedEncoder:
    """A weights file and the encoder that it is of.

    Attributes:
        architecture: a key of `medfm3d.encoders.ENCODERS`.
        arguments: that differ from those of that name.
        path: the weights file.
        provenance: where the weights come from.
    """

    architecture: str
    arguments: Mapping[str, Any]
    path: Path
    provenance: Mapping[str, Any]


def weights_folder() -> Path:
    """Return the folder of imported weights: what MEDFM3D_WEIGHTS names, or medfm3d/weights in the user's cache."""
    stated = os.environ.get(VARIABLE)
    if stated:
        return Path(stated)
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(cache) / "medfm3d" / "weights"


def imported_weights(folder: str | Path | None = None) -> dict[str, Path]:
    """Return the weights files in the folder, `weights_folder` if None, by name."""
    folder = weights_folder() if folder is None else Path(folder)
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find_encoder(name: str | Path, folder: str | Path | None = None) -> PretrainedEncoder:
    """Return a pretrained encoder by the name of imported weights, or by the path of a .safetensors file.

    Raises:
        WeightsError: if there is no such file, saying how to get it where the catalogue knows the name; if the file is
            not an encoder's.
    """
    path = Path(name)
    if path.suffix != ".safetensors":
        there = imported_weights(folder)
        if str(name) not in there:
            raise WeightsError(_absence(str(name), there))
        path = there[str(name)]
    header = read_header(path)
    if header["architecture"] not in ENCODERS:
        raise WeightsError(f"{path}: holds {header['architecture']!r}, not an encoder; name another file")
    return PretrainedEncoder(header["architecture"], header["arguments"], path, header["provenance"])


def imported_origin(provenance: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what an import wrote of weights, also where pretraining went on from them; None if there was none.

    Args:
        provenance: of an encoder's weights file.
    """
    if "catalogue" in provenance:
        return provenance
    earlier = provenance.get("initial_encoder") or provenance.get("encoder_start")
    return None if not isinstance(earlier, Mapping) else imported_origin(earlier)


def _absence(name: str, there: Mapping[str, Path]) -> str:
    entry = read_catalogue().get(name)
    if entry is not None:
        return (
            f"{name}: not imported yet; download {entry.file['name']} from {entry.origin['url']} and run "
            f"`medfm3d weights import {entry.file['name']} --as {name}`"
        )
    known = f"imported are {', '.join(there)}" if there else "nothing is imported yet"
    return (
        f"no weights {name!r}: {known}; `medfm3d weights list` names those that can be, and a path must end in "
        ".safetensors"
    )
