"""Cohorts with one mask file for each organ in a folder for each scan."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from medfm3d.cohorts import CohortError, read_cohort
from medfm3d.cohorts.organ_masks import cohort_from_organ_masks, holds_organ_masks
from medfm3d.volumes import Volume, VolumeError, check_same_grid, read_label, read_volume, write_volume

ORGANS = {"ball": 5, "cube": 2}


@pytest.fixture
def masks(small_cohort: Path, tmp_path: Path) -> Path:
    """Masks of three scans, two of them laid out as in TotalSegmentator's dataset, a further organ beside them."""
    folder = tmp_path / "masks"
    for number, case in enumerate(list(read_cohort(small_cohort))[:3]):
        label = read_label(case.label)
        inner = folder / case.name / ("segmentations" if number else "")
        for organ, value in ORGANS.items():
            inside = (np.uint8(1), np.uint8(255), np.float32(1))[number]  # exported by tools of different minds
            write_volume(Volume((label.array == value) * inside, label.affine), inner / f"{organ}.nii.gz")
        write_volume(Volume((label.array == 0).astype(np.uint8), label.affine), inner / "rest.nrrd")
        if number:
            write_volume(read_volume(case.image), folder / case.name / "mr.nii.gz")
    return folder


def test_masks_become_the_label_maps_that_they_were_taken_from(masks: Path, small_cohort: Path, tmp_path: Path) -> None:
    images = small_cohort / "imagesTr"
    assert holds_organ_masks(images, masks) and not holds_organ_masks(images, small_cohort / "labelsTr")
    assert not holds_organ_masks(images, tmp_path / "absent")
    cohort = cohort_from_organ_masks(images, masks, ORGANS, tmp_path / "converted")
    assert len(cohort) == 6 and [case.label is not None for case in cohort] == [True] * 3 + [False] * 3
    assert cohort.organs == ORGANS
    for case, reference in zip(list(cohort)[:3], read_cohort(small_cohort), strict=False):
        made, label = read_label(case.label), read_label(reference.label)
        check_same_grid(label, made)
        np.testing.assert_array_equal(made.array, np.where(np.isin(label.array, (2, 5)), label.array, 0))


def test_of_named_scans_alone_masks_are_read(masks: Path, small_cohort: Path, tmp_path: Path) -> None:
    images = small_cohort / "imagesTr"
    (masks / "case_0" / "ball.nii.gz").unlink()
    cohort = cohort_from_organ_masks(images, masks, ORGANS, tmp_path / "converted", names=["case_1"])
    assert [case.name for case in cohort if case.label] == ["case_1"]
    with pytest.raises(CohortError, match=r"case_0: has no mask of ball, only of cube, rest"):
        cohort_from_organ_masks(images, masks, ORGANS, tmp_path / "converted")


def test_faults_are_told_with_their_file(masks: Path, small_cohort: Path, tmp_path: Path) -> None:
    images, converted = small_cohort / "imagesTr", tmp_path / "converted"
    with pytest.raises(VolumeError, match=r"rest.nrrd: overlaps with cube.nii.gz in \d+ voxels; decide"):
        # A mask that holds what another holds: the rest and a voxel of the cube.
        rest = read_label(masks / "case_0" / "rest.nrrd")
        rest.array[tuple(np.argwhere(read_label(masks / "case_0" / "cube.nii.gz").array)[0])] = 1
        write_volume(rest, masks / "case_0" / "rest.nrrd")
        cohort_from_organ_masks(images, masks, {"cube": 1, "rest": 2}, converted)
    cube = masks / "case_1" / "segmentations" / "cube.nii.gz"
    mask = read_label(cube)
    write_volume(Volume(np.zeros_like(mask.array), mask.affine), cube)
    with pytest.raises(VolumeError, match=r"cube.nii.gz: is empty, and a support scan must show every organ"):
        cohort_from_organ_masks(images, masks, ORGANS, converted)
    moved = mask.affine.copy()
    moved[0, 3] += 30
    write_volume(Volume(mask.array, moved), cube)
    with pytest.raises(VolumeError, match=r"cube\.nii\.gz"):
        cohort_from_organ_masks(images, masks, ORGANS, converted)
    with pytest.raises(VolumeError, match=r"cube.nii.gz: .*case_1.nii.gz"):  # all masks alike, and not as the scan
        cohort_from_organ_masks(images, masks, {"cube": 1}, converted)
    mask.array[0, 0, 0] = 7
    write_volume(mask, cube)
    with pytest.raises(VolumeError, match=r"cube.nii.gz: holds the values 7, 255, where a mask of one organ has one"):
        cohort_from_organ_masks(images, masks, ORGANS, converted)
    (masks / "case_1").rename(masks / "someone")
    with pytest.raises(CohortError, match=r"someone.*: no scan in .*imagesTr is named someone"):
        cohort_from_organ_masks(images, masks, ORGANS, converted)


def test_label_maps_beside_folders_of_masks_are_refused(masks: Path, small_cohort: Path, tmp_path: Path) -> None:
    images = small_cohort / "imagesTr"
    shutil.copyfile(small_cohort / "labelsTr" / "case_4.nii.gz", masks / "case_4.nii.gz")
    with pytest.raises(CohortError, match=r"holds label maps \(case_4.nii.gz\) and folders of masks \(case_0, "):
        holds_organ_masks(images, masks)
