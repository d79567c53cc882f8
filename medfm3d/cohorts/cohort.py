"""Cohorts as folders: the cases of a Decathlon or nnU-Net folder, or of one folder of images and one of labels."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medfm3d.cohorts.errors import CohortError
from medfm3d.cohorts.manifest import CohortManifest, load_manifest
from medfm3d.volumes import VOLUME_SUFFIXES, find_volumes, output_name


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
    """A set of cases with common labels, in a fixed order.

    ``labels`` maps label values to names, background (0) included; a cohort of two plain folders may know no more.

    Raises:
        CohortError: several cases have the same name.
    """

    name: str
    cases: tuple[Case, ...]
    labels: Mapping[int, str]
    manifest: CohortManifest | None = None

    def __post_init__(self) -> None:
        if repeated := _repeated(case.name for case in self.cases):
            raise CohortError(
                f"cohort {self.name}: several cases are named {_some(repeated)}: name each case once, "
                "and give each its own file name"
            )

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

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
        known = {case.name: case for case in self}
        if unknown := [name for name in names if name not in known]:
            raise CohortError(f"cohort {self.name} has no case {_some(unknown)}: it has {_some(sorted(known))}")
        return replace(self, cases=tuple(known[name] for name in names))

    def without(self, names: Iterable[str]) -> "Cohort":
        """The cases that are not named, in their order; names that the cohort does not have are no error."""
        left_out = set(names)
        return replace(self, cases=tuple(case for case in self if case.name not in left_out))

    def with_organs(self, organs: Mapping[str, int]) -> "Cohort":
        """The cohort whose organs of these label values have the names given, in the outlined organs of cases too.

        Raises:
            CohortError: the cohort has an organ of that name at another label value, or names its organs and has none
                at this one.
        """
        if moved := [name for name, value in organs.items() if self.organs.get(name, value) != value]:
            raise CohortError(
                f"cohort {self.name} has {', '.join(f'{name}={self.organs[name]}' for name in moved)}, "
                f"not {', '.join(f'{name}={organs[name]}' for name in moved)}: correct the label values"
            )
        if self.organs and (unknown := [f"{name}={v}" for name, v in organs.items() if v not in self.labels]):
            known = ", ".join(f"{name}={value}" for name, value in self.organs.items())
            raise CohortError(
                f"cohort {self.name} has no label value of {', '.join(unknown)}: it has {known}; correct the value"
            )
        called = {value: name for name, value in organs.items()}
        renamed = {name: called.get(value, name) for name, value in self.organs.items()}
        return replace(
            self,
            cases=tuple(_rename_organs(case, renamed) for case in self),
            labels={**self.labels, **called},
        )

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
        cases = [_rename_organs(case, renamed) for case in cases]
        labels = dict(manifest.labels)
    return Cohort(name=str(content.get("name", folder.name)), cases=tuple(cases), labels=labels, manifest=manifest)


def cohort_from_folders(
    images: str | Path,
    labels: str | Path | None = None,
    organs: Mapping[str, int] | None = None,
    *,
    names: Collection[str] | None = None,
) -> Cohort:
    """A cohort of a folder of images and one of label maps, of the same names; see ``pair_by_name``.

    Images without a label map are cases without outlines. ``organs`` gives each organ's label value, where known. Where
    ``names`` of cases are given, label maps of others need no image.

    Raises:
        CohortError: a folder does not exist or holds no volume, a label map has no image, or an image has several
            channels.
    """
    cases, without_image = pair_by_name(Path(images), None if labels is None else Path(labels))
    if names is not None:
        without_image = [path for path in without_image if output_name(path) in names]
    if without_image:
        raise CohortError(
            f"{labels}: {len(without_image)} label maps have no image in {images} "
            f"({_some([path.name for path in without_image])}): "
            "an image and its label map must have the same file name, but for the suffix and nnU-Net's _0000"
        )
    named = {0: "background"} | {value: name for name, value in (organs or {}).items()}
    return Cohort(name=Path(images).resolve().name, cases=tuple(cases), labels=named)


def pair_by_name(images: Path, labels: Path | None) -> tuple[list[Case], list[Path]]:
    """Match the volumes of two folders by file name without suffix, and return the label maps without an image too.

    nnU-Net's channel number is no part of a case's name: it is taken off where the label map lacks it, or where there
    is no label map and all images have it.

    Raises:
        CohortError: a folder does not exist or holds no volume, or an image has several channels.
    """
    image_files = _volumes_by_name(images)
    label_files = {} if labels is None else _volumes_by_name(labels)
    all_numbered = all(name.endswith("_0000") for name in image_files)
    cases = []
    for name, image in image_files.items():
        short = name.removesuffix("_0000")
        if name not in label_files and short in label_files:
            if f"{short}_0001" in image_files:
                raise CohortError(f"{image}: has further channels (_0001): only one channel a case is read")
            name = short
        elif name not in label_files and all_numbered:
            name = short
        cases.append(Case(name, image, label_files.pop(name, None)))
    return cases, list(label_files.values())


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


def _rename_organs(case: Case, renamed: Mapping[str, str]) -> Case:
    annotated = None if case.annotated is None else tuple(renamed.get(organ, organ) for organ in case.annotated)
    return replace(case, annotated=annotated, suspect=tuple(renamed.get(organ, organ) for organ in case.suspect))


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


def _volumes_by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise CohortError(f"{folder}: is not a folder: give the folder that holds the scans")
    volumes = find_volumes(folder)
    if not volumes:
        inside = next((part for part in sorted(folder.iterdir()) if part.is_dir() and find_volumes(part)), None)
        deeper = "" if inside is None else f" ({inside.name} in it does: put one file a case into one folder)"
        raise CohortError(
            f"{folder}: holds no volume{deeper}: known are {', '.join(VOLUME_SUFFIXES)} and DICOM series folders"
        )
    if repeated := _repeated(output_name(path) for path in volumes):
        raise CohortError(f"{folder}: several files are named {_some(repeated)}, but for the suffix: keep one of each")
    return {output_name(path): path for path in volumes}


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
