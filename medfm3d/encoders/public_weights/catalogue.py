"""The catalogue of public weights, kept as data beside this module."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from medfm3d.encoders.weights import WeightsError

CATALOGUE = resources.files("medfm3d.encoders.public_weights") / "catalogue"


@dataclass(frozen=True)
class CatalogueEntry:
    """What is known of one file of public weights; `schema/catalogue.schema.json` says what each field holds.

    Attributes:
        name: by which it is imported and used.
        title: in words.
        origin: `url`, `paper`, and `data` that it was trained on.
        licence: `name`, and a `warning` where it forbids what users of such weights commonly do.
        file: `name` of the published file, and its `sha256` where it is known.
        modality: of the scans it was trained on.
        intensity: how these were normalised; None if that is not known.
        spacing_mm: at which it was trained; None if at many.
        orientation: of the arrays that it was trained on.
        encoder: `architecture`, a key of `medfm3d.encoders.ENCODERS`, and `arguments`.
        checkpoint: how the file is laid out and its tensors are named.
    """

    name: str
    title: str
    origin: Mapping[str, str]
    licence: Mapping[str, str | None]
    file: Mapping[str, str | None]
    modality: tuple[str, ...]
    intensity: Mapping[str, Any] | None
    spacing_mm: tuple[float, ...] | None
    orientation: str
    encoder: Mapping[str, Any]
    checkpoint: Mapping[str, Any]


@cache
def read_catalogue() -> dict[str, CatalogueEntry]:
    """Return all entries by name; a file of the catalogue holds a family: what its entries have in common, and they."""
    entries: dict[str, CatalogueEntry] = {}
    for file in sorted(CATALOGUE.iterdir(), key=lambda file: file.name):
        family = json.loads(file.read_text(encoding="utf-8"))
        for content in family["entries"]:
            entry = CatalogueEntry(**(family["common"] | content))
            entries[entry.name] = entry
    return entries


def catalogue_entry(name: str) -> CatalogueEntry:
    """Return an entry by name.

    Raises:
        WeightsError: if there is none of that name.
    """
    entries = read_catalogue()
    if name not in entries:
        raise WeightsError(f"the catalogue has no weights {name!r}; `medfm3d weights list` names {', '.join(entries)}")
    return entries[name]
