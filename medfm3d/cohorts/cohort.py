"""Cohorts as folders: the cases of a Decathlon or nnU-Net folder, or of one folder of images and one of labels."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medfm3d.cohorts.errors import CohortError
from medfm3d.cohorts.manifest import CohortManifest, load_manifest
from medfm3d.volumes import VOLUME_SUFFIXES, find_volumes


@dataclass(frozen=True)
class Case:
    """One scan and, where there is one, its label map.

    ``annotated`` names the organs that were outlined in this case: one that is not named was not outlined, which is
    not the same as absent. None: all organs of the cohort were. ``suspect`` names organs whose outline the source
    doubts.
    """

    name: str
    image: Path
    label: Path | None = None
    annotated: tuple[str, ...] | None = None
    suspect: tuple[str, ...] = ()

    def outlines(self, organ: str) -> bool:
        """Whether this case has a label map in which the organ was outlined."""
        return self.label is not None and (self.annotated is None or organ in self.annotated)


@dataclass(frozen=True)
class Cohort:
    """A set of cases with common labels, in a fixed order; ``labels`` maps label values to names, with background."""

    name: str
    cases: tuple[Case, ...]
    labels: Mapping[int, str]
    manifest: CohortManifest | None = None

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __getitem__(self, name: str) -> Case:
        return self.select([name]).cases[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The case names, in order."""
        return tuple(case.name for case in self.cases)

    @property
    def organs(self) -> dict[str, int]:
        """Organ name to label value, without background."""
        return {name: value for value, name in self.labels.items() if value != 0}

    def select(self, names: Iterable[str]) -> "Cohort":
        """The cases of these names, in the order given.

        Raises:
            CohortError: a name is not in the cohort, or is given twice.
        """
        names = list(names)
        known = {case.name: case for case in self.cases}
        if unknown := [name for name in names if name not in known]:
            raise CohortError(f"cohort {self.name} has no case {_some(unknown)}: it has {_some(sorted(known))}")
        if len(set(names)) != len(names):
            repeated = sorted({name for name in names if names.count(name) > 1})
            raise CohortError(f"case {_some(repeated)} is asked for more than once: name each case once")
        return replace(self, cases=tuple(known[name] for name in names))

    def without(self, names: Iterable[str]) -> "Cohort":
        """The cases that are not named, in their order; names that the cohort does not have are no error."""
        left_out = set(names)
        return replace(self, cases=tuple(case for case in self.cases if case.name not in left_out))

    def split(self, name: str) -> "Cohort":
        """The cases of a fixed split of the manifest.

        Raises:
            CohortError: the cohort was read without a manifest, the manifest has no such split, or cases of it are
                missing.
        """
        if self.manifest is None:
            raise CohortError(f"cohort {self.name} was read without a manifest, so it has no fixed splits: give one")
        if name not in self.manifest.splits:
            known = ", ".join(self.manifest.splits) or "none"
            raise CohortError(f"manifest {self.manifest.name} has no split {name!r}: it has {known}")
        return self.select(self.manifest.splits[name])


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
            f"{Path(folder) / 'dataset.json'}: {len(missing)} of the files it lists do not exist ({_some(missing)}): "
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
    if manifest is not None:
        manifest = manifest if isinstance(manifest, CohortManifest) else load_manifest(manifest)
        _check_labels(labels, manifest, path)
        labels = dict(manifest.labels)
    if "training" in content:
        cases = _listed_cases(content, folder, path)
    elif "file_ending" in content:  # nnU-Net v2 lists no cases: they are what lies in the folders
        cases = _paired_cases(folder / "imagesTr", folder / "labelsTr")
        if (folder / "imagesTs").is_dir():
            cases += _paired_cases(folder / "imagesTs", None)
    else:
        raise CohortError(
            f"{path}: has neither a list training (Decathlon) nor a file_ending (nnU-Net v2): add the list"
        )
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise CohortError(f"{path}: several cases are named {_some(repeated)}: give each case its own file name")
    return Cohort(name=str(content.get("name", folder.name)), cases=tuple(cases), labels=labels, manifest=manifest)


def cohort_from_folders(
    images_dir: str | Path, labels_dir: str | Path | None = None, organs: Mapping[str, int] | None = None
) -> Cohort:
    """A cohort of one folder of images and one of label maps, matched by file stem; an nnU-Net ``_0000`` is taken off.

    Images without a label map are cases without outlines. ``organs`` gives each organ's label value.

    Raises:
        CohortError: a folder does not exist or holds no volume, a label map has no image, or images have several
            channels.
    """
    labels = {0: "background"} | {value: name for name, value in (organs or {}).items()}
    cases = _paired_cases(Path(images_dir), None if labels_dir is None else Path(labels_dir))
    return Cohort(name=Path(images_dir).name, cases=tuple(cases), labels=labels)


def volume_stem(path: Path) -> str:
    """File name without its volume suffix (``a.nii.gz`` gives ``a``); a DICOM series folder keeps its whole name."""
    lowered = path.name.lower()
    for suffix in sorted(VOLUME_SUFFIXES, key=len, reverse=True):
        if lowered.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CohortError(
            f"{path}: does not exist: a cohort folder has a dataset.json in Decathlon layout; "
            "for two plain folders give the images and the labels apart"
        ) from None
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
        image = _inside(folder, entry["image"], path)
        label = None if entry.get("label") is None else _inside(folder, entry["label"], path)
        annotated = None if entry.get("annotated") is None else tuple(entry["annotated"])
        name = volume_stem(image)
        if label is not None and name.removesuffix("_0000") == volume_stem(label):
            name = volume_stem(label)
        cases.append(Case(name, image, label, annotated, tuple(entry.get("suspect", ()))))
    return cases


def _inside(folder: Path, relative: str, path: Path) -> Path:
    normal = Path(os.path.normpath(relative))  # not resolved: a folder of a cohort may be a link
    if normal.is_absolute() or normal.parts[:1] == ("..",):
        raise CohortError(f"{path}: {relative!r} leaves the cohort's folder: list files within it, relative to it")
    return folder / normal


def _paired_cases(images_dir: Path, labels_dir: Path | None) -> list[Case]:
    images = {volume_stem(path): path for path in _volumes(images_dir)}
    labels = {} if labels_dir is None else {volume_stem(path): path for path in _volumes(labels_dir)}
    if several := [
        stem for stem in images if stem.endswith("_0000") and stem.removesuffix("_0000") + "_0001" in images
    ]:
        raise CohortError(
            f"{images_dir}: {_some(several)} have further channels (_0001): only one channel a case is read"
        )
    all_have_channel = all(stem.endswith("_0000") for stem in images)
    cases = []
    for stem, image in images.items():
        short = stem.removesuffix("_0000")
        name = short if stem not in labels and (short in labels or all_have_channel) else stem
        cases.append(Case(name, image, labels.pop(name, None)))
    if labels:
        raise CohortError(
            f"{labels_dir}: {len(labels)} label maps have no image in {images_dir} ({_some(sorted(labels))}): "
            "an image and its label map must have the same file name, but for the suffix and nnU-Net's _0000"
        )
    return cases


def _volumes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CohortError(f"{folder}: is not a folder: give the folder that holds the scans")
    volumes = find_volumes(folder)
    if not volumes:
        raise CohortError(f"{folder}: holds no volume: known are {', '.join(VOLUME_SUFFIXES)} and DICOM series folders")
    stems = [volume_stem(path) for path in volumes]
    if len(set(stems)) != len(stems):
        repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
        raise CohortError(f"{folder}: several files are named {_some(repeated)}: keep one of each")
    return volumes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
