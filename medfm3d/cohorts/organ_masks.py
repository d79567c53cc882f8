"""Cohorts whose outlines are one mask file for each organ, in a folder for each scan, as TotalSegmentator has them."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from medfm3d.cohorts.cohort import Cohort, repeated, some
from medfm3d.cohorts.errors import CohortError
from medfm3d.cohorts.paired_folders import cohort_from_folders, pair_by_name
from medfm3d.volumes import (
    Volume,
    VolumeError,
    check_same_grid,
    find_volumes,
    output_name,
    read_label,
    read_volume,
    write_volume,
)

INNER = "segmentations"  # in TotalSegmentator's dataset, beside the scan


def holds_organ_masks(images: str | Path, labels: str | Path) -> bool:
    """Return whether a folder of outlines holds folders of mask files, and no label map.

    Raises:
        CohortError: if it holds label maps, and folders of masks for other scans of a folder of images.
    """
    if not Path(labels).is_dir() or not (folders := _mask_folders(labels)):
        return False
    label_maps = [path.name for path in find_volumes(labels) if path.is_file()]
    if label_maps and (mixed := sorted(folders.keys() & _scans(images).keys())):
        raise CohortError(
            f"{labels}: holds label maps ({some(label_maps)}) and folders of masks ({some(mixed)}): keep each kind in "
            "a folder of its own"
        )
    return not label_maps


def cohort_from_organ_masks(
    images: str | Path,
    labels: str | Path,
    organs: Mapping[str, int],
    converted: str | Path,
    *,
    names: Collection[str] | None = None,
) -> Cohort:
    """Return a cohort of a folder of images, of which those that have a folder of masks are labelled.

    The masks of the scan `a.nii.gz` are `a/ORGAN.nii.gz`, or `a/segmentations/ORGAN.nii.gz`, of any format that label
    maps have: one value beside 0.

    Args:
        images: folder of scans.
        labels: folder of folders of masks, each named as its scan.
        organs: label value of each organ, by the name of its file.
        converted: folder that label maps are written to, one for each folder of masks, as NIfTI.
        names: scans whose masks are read; all if left out.

    Raises:
        CohortError: as `cohort_from_folders`, and if an organ has no mask file or several.
        VolumeError: if a mask cannot be read, is empty or holds several values, if masks of one scan overlap, or their
            grids or the scan's differ.
    """
    scans = _scans(images)
    for name, folder in _mask_folders(labels).items():
        if names is not None and name not in names:
            continue
        if name not in scans:
            raise CohortError(f"{folder}: no scan in {images} is named {name}: a folder of masks is named as its scan")
        label_map = label_map_of_masks(folder, organs)
        check_same_grid(read_volume(scans[name]), label_map)
        write_volume(label_map, Path(converted) / f"{name}.nii.gz")
    return cohort_from_folders(images, converted, organs, names=names)


def label_map_of_masks(folder: str | Path, organs: Mapping[str, int]) -> Volume:
    """Return one label map of the masks of one scan, on their grid.

    Raises:
        CohortError: if an organ has no mask file, or several.
        VolumeError: if a mask cannot be read, is empty or holds several values, or masks overlap or differ in grid.
    """
    files = [path for path in find_volumes(folder) if path.is_file()]
    named = {output_name(path): path for path in files}
    if absent := [organ for organ in organs if organ not in named]:
        raise CohortError(
            f"{folder}: has no mask of {some(absent)}, only of {some(sorted(named))}: name organs as their files, "
            "or leave the scan out"
        )
    if doubled := [name for name in repeated(output_name(path) for path in files) if name in organs]:
        raise CohortError(f"{folder}: several masks are named {some(doubled)}, but for the suffix: keep one of each")
    merged: Volume | None = None
    for organ, number in organs.items():  # one at a time: a hundred masks of a whole body are more than fits
        mask = _read_mask(named[organ])
        if merged is None:
            merged = Volume(np.zeros(mask.shape, dtype=np.uint16), mask.affine, mask.source)
        check_same_grid(merged, mask)
        inside = mask.array != 0
        if len(taken := merged.array[inside & (merged.array != 0)]):
            others = [named[name].name for name, value in organs.items() if value in taken]
            raise VolumeError(
                f"{named[organ]}: overlaps with {some(others)} in {len(taken)} voxels; decide which organ they belong "
                "to, or adapt to each apart"
            )
        merged.array[inside] = number
    if merged is None:
        raise CohortError(f"{folder}: no organs are asked for: name at least one")
    return merged


def _read_mask(file: Path) -> Volume:
    mask = read_label(file)
    if not mask.array.any():
        raise VolumeError(f"{file}: is empty, and a support scan must show every organ; leave the scan out (--cases)")
    if len(values := np.unique(mask.array[mask.array != 0]).tolist()) > 1:
        raise VolumeError(
            f"{file}: holds the values {some([str(value) for value in values])}, where a mask of one organ has one "
            "beside 0; give label maps as files that are named as their scans"
        )
    return mask


def _scans(images: str | Path) -> dict[str, Path]:
    """Return the scans by name, with and without nnU-Net's number of the channel."""
    cases, _ = pair_by_name(Path(images), None)
    return {name: case.image for case in cases for name in (case.name, case.name.removesuffix("_0000"))}


def _mask_folders(labels: str | Path) -> dict[str, Path]:
    """Return the folder that holds mask files of each scan, by the scan's name, sorted."""
    folders = {}
    for case in sorted(path for path in Path(labels).iterdir() if path.is_dir() and not path.name.startswith(".")):
        inner = case / INNER
        folder = inner if inner.is_dir() else case
        if any(path.is_file() for path in find_volumes(folder)):
            folders[case.name] = folder
    return folders
