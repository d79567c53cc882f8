"""Cohorts as folders with a dataset.json: in Medical Segmentation Decathlon or nnU-Net v2 raw layout."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medfm3d.cohorts.cohort import Case, Cohort, rename_organs, some
from medfm3d.cohorts.errors import CohortError
from medfm3d.cohorts.manifest import CohortManifest, load_manifest
from medfm3d.cohorts.paired_folders import cohort_from_folders
from medfm3d.volumes import find_volumes, output_name


def read_cohort(folder: str | Path, manifest: CohortManifest | str | Path | None = None) -> Cohort:
    """Read a folder in Medical Segmentation Decathlon layout, or in nnU-Net v2 raw layout, by its dataset.json.

    Cases of the list ``test`` have no label. Where a manifest is given, its label names count, and its fixed splits
    are at hand as ``Cohort.split``. The scans themselves are not opened: ``check_cohort`` does that.

    Raises:
        CohortError: dataset.json is missing or not as it must be, files that it lists do not exist, or its labels are
            not those of the manifest.
    """
    cohort = parse_cohort(folder, manifest)
    paths = [path for case in cohort for path in (case.image, case.label) if path is not None]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise CohortError(
            f"{Path(folder) / 'dataset.json'}: {len(missing)} of the files it lists do not exist ({some(missing)}): "
            "complete the folder, or take these cases out of dataset.json"
        )
    return cohort


def parse_cohort(folder: str | Path, manifest: CohortManifest | str | Path | None = None) -> Cohort:
    """As ``read_cohort``, without asking whether the listed files exist.

    Raises:
        CohortError: dataset.json is missing or not as it must be, or its labels are not those of the manifest.
    """
    folder = Path(folder)
    path = folder / "dataset.json"
    content = _read_json(path)
    labels = _labels(content.get("labels"), path)
    if "training" in content:
        cases = _listed_cases(content, folder, path)
    elif "file_ending" in content:
        cases = _nnunet_cases(content, folder, path)
    else:
        raise CohortError(
            f"{path}: has neither a list training (Decathlon) nor a file_ending (nnU-Net v2): add the list"
        )
    if manifest is not None:
        manifest = manifest if isinstance(manifest, CohortManifest) else load_manifest(manifest)
        _check_labels(labels, manifest, path)
        renamed = {name: manifest.labels[value] for value, name in labels.items()}
        cases = [rename_organs(case, renamed) for case in cases]
        labels = dict(manifest.labels)
    return Cohort(name=str(content.get("name", folder.name)), cases=tuple(cases), labels=labels, manifest=manifest)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = "add one in Decathlon layout, or give the folders of images and of labels apart"
        raise CohortError(f"{path}: does not exist: {remedy}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CohortError(f"{path}: not valid JSON ({error}): correct the file") from error
    if not isinstance(content, dict):
        raise CohortError(f"{path}: is a JSON {type(content).__name__}, not an object: see the Decathlon layout")
    return content


def _labels(content: Any, path: Path) -> dict[int, str]:
    """Label value to name, from the Decathlon's {"1": "liver"} or nnU-Net's {"liver": 1}."""
    if not isinstance(content, dict) or not content:
        raise CohortError(f'{path}: has no labels: add them, such as {{"0": "background", "1": "liver"}}')
    pairs = [(key, value) if str(key).isdigit() else (value, key) for key, value in content.items()]
    if not all(str(value).isdigit() and isinstance(name, str) for value, name in pairs):
        raise CohortError(
            f"{path}: labels must pair one whole number with one name each, regions are not read: {content}"
        )
    labels = {int(value): name for value, name in sorted(pairs, key=lambda pair: int(pair[0]))}
    if "ignore" in labels.values():
        raise CohortError(
            f"{path}: has nnU-Net's label ignore, voxels that nobody outlined, which is not read: outline what has it, "
            "or take these cases and this label out"
        )
    if len(labels) != len(pairs):
        raise CohortError(f"{path}: several labels share one value: {content}")
    return labels


def _check_labels(labels: Mapping[int, str], manifest: CohortManifest, path: Path) -> None:
    def plain(names: Mapping[int, str]) -> dict[int, str]:
        known = {value: manifest.label_aliases.get(name, name) for value, name in names.items()}
        return {value: re.sub(r"[^a-z0-9]", "", name.lower()) for value, name in known.items()}

    if plain(labels) != plain(manifest.labels):
        raise CohortError(
            f"{path}: its labels {dict(labels)} are not those of the manifest {manifest.name} {dict(manifest.labels)}: "
            "give the manifest of this cohort, or none"
        )


def _listed_cases(content: Mapping[str, Any], folder: Path, path: Path) -> list[Case]:
    entries = [entry for key in ("training", "validation", "test") for entry in content.get(key, ())]
    cases = []
    for entry in entries:
        entry = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise CohortError(f"{path}: {entry!r} is no case: a case has at least an image, given as a path")
        annotated, suspect = entry.get("annotated"), entry.get("suspect", [])
        # `suspect` may also give a reason for each organ, as an object.
        if not isinstance(annotated, list | None) or not isinstance(suspect, list | dict):
            raise CohortError(f"{path}: {entry['image']}: annotated and suspect must be lists of organs")
        image = _inside(folder, entry["image"], path)
        label = None if entry.get("label") is None else _inside(folder, entry["label"], path)
        name = output_name(image)
        if label is not None and name.removesuffix("_0000") == output_name(label):
            name = output_name(label)
        cases.append(Case(name, image, label, None if annotated is None else tuple(annotated), tuple(suspect)))
    return cases


def _nnunet_cases(content: Mapping[str, Any], folder: Path, path: Path) -> list[Case]:
    # nnU-Net v2 lists no cases: they are what lies in the folders.
    if len(content.get("channel_names", ())) > 1:
        raise CohortError(f"{path}: has channels {content['channel_names']}: only one channel a case is read")
    labelled = cohort_from_folders(folder / "imagesTr", folder / "labelsTr")
    if not (folder / "imagesTs").is_dir() or not find_volumes(folder / "imagesTs"):
        return list(labelled)
    return [*labelled, *cohort_from_folders(folder / "imagesTs")]


def _inside(folder: Path, relative: str, path: Path) -> Path:
    normal = Path(os.path.normpath(relative))  # not resolved: a folder of a cohort may be a link
    if normal.is_absolute() or normal.parts[:1] == ("..",):
        raise CohortError(f"{path}: {relative!r} leaves the cohort's folder: list files within it, relative to it")
    return folder / normal
