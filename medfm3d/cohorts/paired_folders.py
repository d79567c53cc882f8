"""Cohorts as one folder of images and one of label maps, matched by file name."""

from collections.abc import Collection, Mapping
from pathlib import Path

from medfm3d.cohorts.cohort import Case, Cohort, repeated, some
from medfm3d.cohorts.errors import CohortError
from medfm3d.volumes import VOLUME_SUFFIXES, find_volumes, output_name


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
            f"({some([path.name for path in without_image])}): "
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
    if doubled := repeated(output_name(path) for path in volumes):
        raise CohortError(f"{folder}: several files are named {some(doubled)}, but for the suffix: keep one of each")
    return {output_name(path): path for path in volumes}
