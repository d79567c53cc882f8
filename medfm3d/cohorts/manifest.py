"""Manifests: which cohorts exist, where they come from, what their labels mean and how they are split.

A manifest is a JSON file with the keys of a Medical Segmentation Decathlon dataset.json (Antonelli et al. 2022) and,
beside them, source, licence, citation, checksums and fixed splits. ``data_manifests/README.md`` describes it,
``data_manifests/schema/manifest.schema.json`` is its schema.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from medfm3d.cohorts.errors import ManifestError

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED_FOLDER = _PACKAGE / "_data_manifests"
_CHECKOUT_FOLDER = _PACKAGE.parent / "data_manifests"


@dataclass(frozen=True)
class Download:
    """One file of a cohort as published; ``checksum`` is ``algorithm:hexadecimal``, or None where none is known."""

    url: str
    filename: str
    checksum: str | None
    checksum_note: str | None = None
    size_bytes: int | None = None
    unpack: bool = True


@dataclass(frozen=True)
class CohortManifest:
    """What is known of a cohort before any of its scans is read.

    ``name`` is the identifier used on the command line, ``title`` the cohort's own name. ``labels`` maps label values
    to names, background (0) included. ``access`` is one of open, registration, application, generated.
    ``num_training`` and ``num_test`` are None where the cohort has no fixed size. ``splits`` maps a split's name to
    case names.
    """

    name: str
    title: str
    description: str
    modality: tuple[str, ...]
    labels: Mapping[int, str]
    licence: str
    licence_note: str | None
    citations: tuple[str, ...]
    homepage: str
    access: str
    how_to_get: str | None
    downloads: tuple[Download, ...]
    num_training: int | None
    num_test: int | None
    splits: Mapping[str, tuple[str, ...]]
    label_aliases: Mapping[str, str]
    path: Path

    @property
    def organs(self) -> dict[str, int]:
        """Organ name to label value, without background."""
        return {name: value for value, name in self.labels.items() if value != 0}


def manifest_folder() -> Path:
    """Folder of the manifests: the checkout's own, or the copy inside an installed package.

    Raises:
        ManifestError: there is neither.
    """
    for folder in (_INSTALLED_FOLDER, _CHECKOUT_FOLDER):
        if (folder / "schema" / "manifest.schema.json").is_file():
            return folder
    raise ManifestError(f"no manifests at {_INSTALLED_FOLDER} or {_CHECKOUT_FOLDER}: install medfm3d again")


def list_manifests() -> list[CohortManifest]:
    """Every manifest that comes with the package, by name.

    Raises:
        ManifestError: one of them is not valid.
    """
    return [load_manifest(path) for path in sorted(manifest_folder().glob("*.json"))]


def load_manifest(name_or_path: str | Path) -> CohortManifest:
    """Read and validate one manifest, by its name (``msd_hippocampus``) or by a path to a JSON file.

    Raises:
        ManifestError: there is no such manifest, it is not JSON, or it does not fit the schema.
    """
    path = _find_manifest(name_or_path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not valid JSON ({error}): correct the file") from error
    faults = manifest_faults(content)
    if faults:
        raise ManifestError(f"{path}: not a valid manifest: " + "; ".join(faults))
    return _from_json(content, path)


def manifest_faults(content: Any) -> list[str]:
    """All that is wrong with a manifest's parsed JSON, as sentences; empty when it is valid."""
    validator = jsonschema.Draft7Validator(_schema())
    found = sorted(validator.iter_errors(content), key=lambda error: [str(part) for part in error.absolute_path])
    if found:
        return ["/".join(map(str, error.absolute_path)) + f": {error.message}" for error in found]
    return _faults_beyond_schema(content)


def _faults_beyond_schema(content: Mapping[str, Any]) -> list[str]:
    faults = []
    names = list(content["labels"].values())
    faults += [
        f"labels: {name!r} is given to several values" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    taken: dict[str, str] = {}
    for split, cases in content["splits"].items():
        for case in cases:
            if case in taken:
                faults.append(f"splits: case {case!r} is in {taken[case]!r} and in {split!r}")
            taken[case] = split
    aliases = content.get("label_aliases", {})
    faults += [f"label_aliases: {organ!r} is no label" for organ in aliases.values() if organ not in names]
    return faults


def _find_manifest(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".json" or path.parent != Path():
        if path.is_file():
            return path
        raise ManifestError(f"{path}: no such manifest file: give a path to a JSON file or the name of a known cohort")
    shipped = manifest_folder() / f"{path}.json"
    if shipped.is_file():
        return shipped
    known = ", ".join(sorted(p.stem for p in manifest_folder().glob("*.json")))
    raise ManifestError(f"no manifest is named {str(name_or_path)!r}: known are {known}; or give a path to a JSON file")


@cache
def _schema() -> dict[str, Any]:
    return json.loads((manifest_folder() / "schema" / "manifest.schema.json").read_text(encoding="utf-8"))


def _from_json(content: Mapping[str, Any], path: Path) -> CohortManifest:
    source = content["source"]
    return CohortManifest(
        name=content["id"],
        title=content["name"],
        description=content["description"],
        modality=tuple(content["modality"][key] for key in sorted(content["modality"], key=int)),
        labels={int(value): content["labels"][value] for value in sorted(content["labels"], key=int)},
        licence=content["licence"]["name"],
        licence_note=content["licence"].get("note"),
        citations=tuple(_citation(publication) for publication in content["citation"]),
        homepage=source["homepage"],
        access=source["access"],
        how_to_get=source.get("how_to_get"),
        downloads=tuple(Download(**download) for download in source.get("downloads", ())),
        num_training=content["numTraining"],
        num_test=content["numTest"],
        splits={name: tuple(cases) for name, cases in content["splits"].items()},
        label_aliases=content.get("label_aliases", {}),
        path=path,
    )


def _citation(publication: Mapping[str, str]) -> str:
    link = f"https://doi.org/{publication['doi']}" if "doi" in publication else publication.get("url", "")
    return f"{publication['text']} {link}".strip()
