"""Series from which an anonymiser took what outlines may leave empty."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from drawn_series import BUNDLE, ORGANS, Drawn

from medfm3d.volumes import Volume, VolumeError
from medfm3d.volumes.dicom_labels import read_dicom_labels, read_source_series, write_dicom_labels

TAKEN = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "SliceThickness"),
)


@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
def test_outlines_are_written_and_read_back(oblique: Drawn, suffix: str, tmp_path: Path) -> None:
    for path in oblique.series.iterdir():
        one = pydicom.dcmread(path)
        for name in TAKEN:
            if name in one:
                delattr(one, name)
        one.save_as(path)
    written = write_dicom_labels(oblique.labels, ORGANS, oblique.series, tmp_path / f"a{suffix}", BUNDLE)
    told = pydicom.dcmread(written)
    assert (
        told.PatientID in (None, "")
        and told.StudyInstanceUID == read_source_series(oblique.series).slices[0].StudyInstanceUID
    )
    back = read_dicom_labels(written, oblique.series)
    for organ, value in ORGANS.items():
        np.testing.assert_array_equal(back.masks[organ].array, oblique.labels.array == value)


@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
@pytest.mark.parametrize("value", [65537, 1.6, -3])
def test_values_that_are_no_label_are_refused(oblique: Drawn, suffix: str, value: float, tmp_path: Path) -> None:
    array = oblique.labels.array.astype(np.float64)
    array[0, 0, 0] = value
    labels = Volume(array, oblique.labels.affine)
    with pytest.raises(VolumeError, match="have no name"):
        write_dicom_labels(labels, ORGANS, oblique.series, tmp_path / f"a{suffix}", BUNDLE)
    assert not list(tmp_path.glob("*.dcm"))
