"""DICOM series folders, real and broken on purpose."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from medfm3d.volumes import VolumeError, find_volumes, read_volume


@pytest.fixture
def series(real_data: Path, tmp_path: Path) -> Path:
    shutil.copytree(real_data / "dicom" / "hippocampus_crop", tmp_path / "series")
    return tmp_path / "series"


def slices_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))


@pytest.mark.parametrize("name", ["hippocampus_crop", "brain_t1post"])
def test_a_real_series_reads_as_simpleitk_reads_it(real_data: Path, name: str) -> None:
    folder = real_data / "dicom" / name
    ours = read_volume(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = reader.Execute()
    assert ours.shape == theirs.GetSize()
    for index in ((0, 0, 0), (10, 20, 15), tuple(side - 1 for side in ours.shape)):
        assert ours.array[index] == theirs[index]
        lps = np.array(theirs.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(ours.affine[:3] @ [*index, 1], lps * [-1, -1, 1], atol=1e-3)


def test_file_names_do_not_order_slices(series: Path) -> None:
    before = read_volume(series)
    for n, path in enumerate(reversed(slices_of(series))):
        path.rename(series / f"new_{n:03d}.dcm")
    after = read_volume(series)
    np.testing.assert_array_equal(after.array, before.array)
    np.testing.assert_allclose(after.affine, before.affine)


def test_a_missing_slice_is_told(series: Path) -> None:
    slices_of(series)[17].unlink()
    with pytest.raises(VolumeError, match=r"2 mm between .* 1 mm is usual.*missing"):
        read_volume(series)


def test_a_doubled_slice_is_told(series: Path) -> None:
    copied = pydicom.dcmread(slices_of(series)[5])
    copied.SOPInstanceUID = pydicom.uid.generate_uid()
    copied.save_as(series / "again.dcm")
    with pytest.raises(VolumeError, match="several phases or copies"):
        read_volume(series)


def test_two_series_in_one_folder_are_told_and_can_be_chosen(series: Path) -> None:
    before = read_volume(series)
    first = pydicom.dcmread(slices_of(series)[0]).SeriesInstanceUID
    other = pydicom.uid.generate_uid()
    for path in slices_of(series):
        data = pydicom.dcmread(path)
        data.SeriesInstanceUID, data.SOPInstanceUID = other, pydicom.uid.generate_uid()
        data.save_as(series / f"other_{path.name}")
    with pytest.raises(VolumeError, match=r"2 series .*series_uid"):
        read_volume(series)
    np.testing.assert_array_equal(read_volume(series, series_uid=first).array, before.array)
    with pytest.raises(VolumeError, match=r"has no series 1\.2\.3"):
        read_volume(series, series_uid="1.2.3")


def test_a_tilted_gantry_is_told(series: Path) -> None:
    for n, path in enumerate(slices_of(series)):
        data = pydicom.dcmread(path)
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, y + 0.2 * n, z]
        data.save_as(path)
    with pytest.raises(VolumeError, match=r"tilted by 11.31 degrees"):
        read_volume(series)


def test_a_turned_slice_and_a_slice_without_place_are_told(series: Path) -> None:
    path = slices_of(series)[3]
    data = pydicom.dcmread(path)
    place = data.ImageOrientationPatient
    data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    data.save_as(path)
    with pytest.raises(VolumeError, match="different planes"):
        read_volume(series)
    data.ImageOrientationPatient = place
    del data.ImagePositionPatient
    data.save_as(path)
    with pytest.raises(VolumeError, match="no image position"):
        read_volume(series)


def test_folders_that_hold_no_series(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="holds no DICOM series"):
        read_volume(tmp_path)


def test_find_volumes_tells_series_from_other_folders(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "dicom" / "hippocampus_crop", tmp_path / "case_b")
    (tmp_path / "notes").mkdir()
    for name in ("case_a.nii.gz", "case_c.mha", ".hidden.nii.gz", "readme.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_volumes(tmp_path)] == ["case_a.nii.gz", "case_b", "case_c.mha"]
    assert find_volumes(tmp_path / "case_b") == [tmp_path / "case_b"]


def test_every_slice_keeps_its_own_rescale_slope(series: Path) -> None:
    for n, path in enumerate(slices_of(series)):
        data = pydicom.dcmread(path)
        data.RescaleSlope, data.RescaleIntercept = (1, 0) if n == 0 else (40.25, -3)
        data.save_as(path)
    volume = read_volume(series)
    for n, path in enumerate(slices_of(series)):
        data = pydicom.dcmread(path)
        expected = data.pixel_array * (1.0 if n == 0 else 40.25) - (0 if n == 0 else 3)
        k = n if volume.affine[2, 2] > 0 else volume.shape[2] - 1 - n
        np.testing.assert_allclose(volume.array[:, :, k].T, expected, rtol=1e-6)


def test_pixel_sizes_that_are_absent_or_differ_are_told(series: Path) -> None:
    path = slices_of(series)[3]
    data = pydicom.dcmread(path)
    data.PixelSpacing = [2 * size for size in data.PixelSpacing]
    data.save_as(path)
    with pytest.raises(VolumeError, match="pixels of different sizes"):
        read_volume(series)
    del data.PixelSpacing
    data.save_as(path)
    with pytest.raises(VolumeError, match="no image pixel spacing"):
        read_volume(series)


def test_a_stray_dicom_file_hides_no_volume_and_a_dicomdir_no_series(real_data: Path, tmp_path: Path) -> None:
    series = real_data / "dicom" / "hippocampus_crop"
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "case.nii.gz").touch()
    shutil.copy(next(series.iterdir()), tmp_path / "scans" / "structures.dcm")
    assert [path.name for path in find_volumes(tmp_path / "scans")] == ["case.nii.gz"]
    shutil.copytree(series, tmp_path / "cd" / "SERIES1")
    shutil.copy(next(series.iterdir()), tmp_path / "cd" / "DICOMDIR")
    assert [path.name for path in find_volumes(tmp_path / "cd")] == ["SERIES1"]
