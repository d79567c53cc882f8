"""Cohorts of DICOM series whose outlines are SEG and RTSTRUCT files under names of their own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_series import write_series

from medfm3d.cohorts import CohortError
from medfm3d.cohorts.dicom_outlines import cohort_from_dicom_outlines, holds_dicom_outlines
from medfm3d.volumes import Volume, VolumeError, read_label, read_volume, write_volume
from medfm3d.volumes.dicom_labels import MadeBy, write_dicom_labels

HAND = MadeBy("by hand", "0", automatic=False)


def outline(series: Path, path: Path, organs: dict[str, int], seed: int) -> np.ndarray:
    scan = read_volume(series)
    labels = np.random.default_rng(seed).choice([0, *organs.values()], scan.shape).astype(np.uint8)
    write_dicom_labels(Volume(labels, scan.affine), organs, series, path, HAND)
    return labels


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three patients: an RTSTRUCT beside the slices, a SEG in a folder of its own, and no outline."""
    folder = tmp_path / "archive"
    for seed, name in enumerate(("anna", "bert", "carl")):
        array = np.random.default_rng(seed).integers(-100, 100, (9, 8, 5))
        write_series(folder / f"patient {seed}" / name, array)
    return folder


def test_outlines_find_their_series(archive: Path, tmp_path: Path) -> None:
    assert not holds_dicom_outlines(archive)
    anna, bert = archive / "patient 0" / "anna", archive / "patient 1" / "bert"
    first = outline(anna, tmp_path / "a.rtstruct.dcm", {"liver": 7, "PTV": 9}, seed=0)
    second = outline(bert, tmp_path / "b.seg.dcm", {"Liver": 4, "spleen": 5}, seed=1)
    shutil.move(tmp_path / "a.rtstruct.dcm", anna / "RS.1.2.3.dcm")
    (archive / "patient 1" / "plans").mkdir()
    shutil.move(tmp_path / "b.seg.dcm", archive / "patient 1" / "plans" / "export")
    (archive / "readme.txt").write_text("notes")
    assert holds_dicom_outlines(archive)
    cohort = cohort_from_dicom_outlines(archive, archive, {"liver": 1}, tmp_path / "converted")
    assert cohort.names == ("anna", "bert", "carl")
    assert [case.label is not None for case in cohort] == [True, True, False]
    np.testing.assert_array_equal(read_label(cohort.cases[0].label).array, first == 7)
    np.testing.assert_array_equal(read_label(cohort.cases[1].label).array, second == 4)
    with pytest.raises(VolumeError, match=r"RS.1.2.3.dcm: has no outline named 'spleen', only 'liver', 'PTV'"):
        cohort_from_dicom_outlines(archive, archive, {"spleen": 1}, tmp_path / "converted")


def test_of_named_series_alone_outlines_are_read(archive: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    drawn = outline(archive / "patient 0" / "anna", labels / "a.seg.dcm", {"liver": 1}, seed=0)
    outline(archive / "patient 1" / "bert", labels / "b.seg.dcm", {"spleen": 1}, seed=1)  # which has no liver
    elsewhere = write_series(tmp_path / "elsewhere", np.random.default_rng(9).integers(-100, 100, (9, 8, 5)))
    outline(elsewhere, labels / "c.seg.dcm", {"liver": 1}, seed=2)
    cohort = cohort_from_dicom_outlines(archive, labels, {"liver": 1}, tmp_path / "converted", names=["anna"])
    assert [case.name for case in cohort if case.label] == ["anna"] and len(cohort) == 3
    np.testing.assert_array_equal(read_label(cohort.cases[0].label).array, drawn)


def test_outlines_of_nothing_are_told_with_their_file(archive: Path, tmp_path: Path) -> None:
    series, labels = archive / "patient 0" / "anna", tmp_path / "labels"
    scan = read_volume(series)
    drawn = np.zeros(scan.shape, dtype=np.uint8)
    drawn[2:5, 2:5, 1:4] = 1
    organs = {"liver": 1, "spleen": 2}  # a region without a contour
    write_dicom_labels(Volume(drawn, scan.affine), organs, series, labels / "a.rtstruct.dcm", HAND)
    assert cohort_from_dicom_outlines(archive, labels, {"liver": 1}, tmp_path / "converted").cases[0].label is not None
    with pytest.raises(VolumeError, match=r"a.rtstruct.dcm: its outline of spleen holds no voxel of .*anna"):
        cohort_from_dicom_outlines(archive, labels, organs, tmp_path / "converted")


def test_what_does_not_match_is_told(archive: Path, tmp_path: Path) -> None:
    labels, anna = tmp_path / "labels", archive / "patient 0" / "anna"
    outline(anna, labels / "a.seg.dcm", {"liver": 1}, seed=0)
    others = archive / "patient 1"
    with pytest.raises(CohortError, match=r"a.seg.dcm: outlines the series [0-9.]+, which is not in"):
        cohort_from_dicom_outlines(others, labels, {"liver": 1}, tmp_path / "converted")
    shutil.copy(labels / "a.seg.dcm", labels / "b.seg.dcm")
    with pytest.raises(CohortError, match=r"b.seg.dcm: outlines the series .*anna, as .*a.seg.dcm does"):
        cohort_from_dicom_outlines(archive, labels, {"liver": 1}, tmp_path / "converted")
    (labels / "b.seg.dcm").unlink()
    with pytest.raises(CohortError, match="holds no DICOM series"):
        cohort_from_dicom_outlines(labels, labels, {"liver": 1}, tmp_path / "converted")
    shutil.copytree(anna, archive / "anna again")
    with pytest.raises(CohortError, match="holds the same series as"):
        cohort_from_dicom_outlines(archive, labels, {"liver": 1}, tmp_path / "converted")
    write_volume(Volume(np.eye(4)[None].repeat(3, 0), np.eye(4)), labels / "map.nii.gz")
    assert not holds_dicom_outlines(labels)  # label maps as files go before
