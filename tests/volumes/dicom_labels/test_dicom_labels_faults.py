"""Series, label maps and files that outlines cannot be tied to."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from drawn_series import BUNDLE, ORGANS, Drawn

from medfm3d.volumes import Volume, VolumeError, find_volumes, read_label, read_volume
from medfm3d.volumes.dicom_labels import (
    MadeBy,
    labelled_series_uid,
    made_by_bundle,
    read_dicom_labels,
    write_dicom_labels,
)

SUFFIXES = (".seg.dcm", ".rtstruct.dcm")


def change(folder: Path, alter: Callable[[pydicom.Dataset], None], which: slice = slice(None)) -> None:
    for path in sorted(folder.iterdir())[which]:
        one = pydicom.dcmread(path)
        alter(one)
        one.save_as(path)


def set_to(**values: object) -> Callable[[pydicom.Dataset], None]:
    return lambda one: [setattr(one, name, value) for name, value in values.items()]


def drop(name: str) -> Callable[[pydicom.Dataset], None]:
    return lambda one: delattr(one, name)


def several_frames(one: pydicom.Dataset) -> None:
    one.NumberOfFrames = 3
    one.PixelData = one.PixelData * 3


FAULTS = {
    "a slice is missing": (lambda folder: sorted(folder.iterdir())[4].unlink(), "a slice is missing"),
    "two frames of reference": (
        lambda folder: change(folder, set_to(FrameOfReferenceUID="1.2.3"), slice(3)),
        "2 different values of FrameOfReferenceUID",
    ),
    "no frame of reference": (
        lambda folder: change(folder, drop("FrameOfReferenceUID")),
        "has no FrameOfReferenceUID, which outlines must refer to",
    ),
    "two patients": (
        lambda folder: change(folder, set_to(PatientID="P-18"), slice(1)),
        "2 different values of PatientID",
    ),
    "one identifier for all": (
        lambda folder: change(folder, set_to(SOPInstanceUID="1.2.3")),
        "share one SOPInstanceUID",
    ),
    "a multi-frame file": (lambda folder: change(folder, several_frames), "is a multi-frame file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_series_are_told(oblique: Drawn, tmp_path: Path, fault: str) -> None:
    spoil, said = FAULTS[fault]
    spoil(oblique.series)
    for suffix in SUFFIXES:
        with pytest.raises(VolumeError, match=said):
            write_dicom_labels(oblique.labels, ORGANS, oblique.series, tmp_path / f"a{suffix}", BUNDLE)
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_label_maps_that_do_not_fit_are_told(oblique: Drawn, tmp_path: Path, suffix: str) -> None:
    array, affine = oblique.labels.array, oblique.labels.affine
    moved = affine.copy()
    moved[0, 3] += 0.5
    faults = [
        ("has .* voxels, its image", Volume(array[:-1], affine), ORGANS, BUNDLE),
        ("lies up to 0.5 mm", Volume(array, moved), ORGANS, BUNDLE),
        (r"label values \[9\] have no name", oblique.labels, {"a": 3, "b": 4}, BUNDLE),
        ("distinct numbers from 1", oblique.labels, {"a": 3, "b": 3}, BUNDLE),
        ("without backslash", oblique.labels, {**ORGANS, "left\\right": 20}, BUNDLE),
        ("1 to 64 printable", oblique.labels, {**ORGANS, "x" * 65: 20}, BUNDLE),
    ]
    for said, labels, organs, made_by in faults:
        with pytest.raises(VolumeError, match=said):
            write_dicom_labels(labels, organs, oblique.series, tmp_path / f"a{suffix}", made_by)
    with pytest.raises(VolumeError, match="1 to 64 printable"):
        MadeBy("", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_files_that_hold_no_outline_of_this_scan_are_told(oblique: Drawn, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = write_dicom_labels(oblique.labels, ORGANS, oblique.series, tmp_path / f"a{suffix}", BUNDLE)
        assert labelled_series_uid(path) == pydicom.dcmread(next(oblique.series.iterdir())).SeriesInstanceUID
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(path.read_bytes()[:100])
        with pytest.raises(VolumeError, match="cannot be read as DICOM"):
            read_dicom_labels(cut, oblique.series)
    one = next(oblique.series.iterdir())
    assert labelled_series_uid(one) is None
    assert labelled_series_uid(Path(__file__)) is None
    with pytest.raises(VolumeError, match="is neither DICOM SEG nor RTSTRUCT"):
        read_dicom_labels(one, oblique.series)
    other = shutil.copytree(oblique.series, tmp_path / "other")
    change(other, set_to(FrameOfReferenceUID="1.2.3"))
    for suffix in SUFFIXES:
        with pytest.raises(VolumeError, match="another frame of reference"):
            read_dicom_labels(tmp_path / f"a{suffix}", other)
    # The same frame of reference, but slices elsewhere or in another plane.
    shutil.rmtree(other)
    shutil.copytree(oblique.series, other)
    for path in sorted(other.iterdir())[:4]:
        path.unlink()
    with pytest.raises(VolumeError, match="reaches beyond its scan"):
        read_dicom_labels(tmp_path / "a.seg.dcm", other).label_map()
    with pytest.raises(VolumeError, match="contour beyond the slices"):
        read_dicom_labels(tmp_path / "a.rtstruct.dcm", other).label_map()
    change(other, set_to(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]))
    for k in range(len(list(other.iterdir()))):
        change(other, set_to(ImagePositionPatient=[-100, -50, 30 + k]), slice(k, k + 1))
    with pytest.raises(VolumeError, match="leaves the plane of its slice"):
        read_dicom_labels(tmp_path / "a.rtstruct.dcm", other).label_map()


def test_probabilities_are_no_outline(oblique: Drawn, tmp_path: Path) -> None:
    path = write_dicom_labels(oblique.labels, ORGANS, oblique.series, tmp_path / "a.seg.dcm", BUNDLE)
    file = pydicom.dcmread(path)
    file.SegmentationType, file.SegmentationFractionalType, file.MaximumFractionalValue = (
        "FRACTIONAL",
        "PROBABILITY",
        255,
    )
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit = 7
    file.PixelData = bytes(int(file.NumberOfFrames) * file.Rows * file.Columns)
    file.save_as(path)
    with pytest.raises(VolumeError, match="holds probabilities"):
        read_dicom_labels(path, oblique.series)


def test_read_label_says_what_to_do_with_dicom_outlines(oblique: Drawn, tmp_path: Path) -> None:
    path = write_dicom_labels(oblique.labels, ORGANS, oblique.series, tmp_path / "a.rtstruct.dcm", BUNDLE)
    with pytest.raises(VolumeError, match="medfm3d convert --mask FILE --series FOLDER"):
        read_label(path)


def test_outlines_beside_the_slices_do_not_hide_the_scan(oblique: Drawn, tmp_path: Path) -> None:
    before = read_volume(oblique.series)
    for n, suffix in enumerate(SUFFIXES):
        path = write_dicom_labels(oblique.labels, ORGANS, oblique.series, tmp_path / f"a{suffix}", BUNDLE)
        shutil.copy(path, oblique.series / f"RS{n}.dcm")  # as planning systems export them
        (tmp_path / "plans").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "plans" / f"RS{n}.dcm")
    np.testing.assert_array_equal(read_volume(oblique.series).array, before.array)
    assert find_volumes(tmp_path) == [oblique.series]


def test_who_made_it_is_read_from_a_bundle(tmp_path: Path, repository: Path) -> None:
    made_by = made_by_bundle(repository / "bundles" / "fewshot_organ_segmentation")
    assert made_by.name and made_by.version and made_by.automatic
    with pytest.raises(VolumeError, match=r"metadata.json: cannot be read"):
        made_by_bundle(tmp_path)
