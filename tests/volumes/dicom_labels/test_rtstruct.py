"""RTSTRUCT: what other programs read out of it, and what it refers to."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drawn_series import BUNDLE, OBLIQUE, ORGANS, Drawn, draw
from skimage.draw import polygon2mask

from medfm3d.volumes import Volume, VolumeError, reorient
from medfm3d.volumes.dicom_labels import read_dicom_labels, read_source_series, write_dicom_labels
from medfm3d.volumes.palette import organ_colours


@pytest.fixture
def written(drawn: Drawn, tmp_path: Path) -> Path:
    labels = reorient(drawn.labels, "SAR")
    return write_dicom_labels(labels, ORGANS, drawn.series, tmp_path / "a.rtstruct.dcm", BUNDLE)


def test_centres_within_the_contours_are_the_mask_by_itk_and_scikit_image(drawn: Drawn, written: Path) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(drawn.series)))
    image = reader.Execute()
    columns, rows, slices = image.GetSize()
    places = [image.TransformIndexToPhysicalPoint((0, 0, k)) for k in range(slices)]
    file = pydicom.dcmread(written)
    names = {region.ROINumber: region.ROIName for region in file.StructureSetROISequence}
    files = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in drawn.series.iterdir()}
    for region in file.ROIContourSequence:
        mask = np.zeros((columns, rows, slices), dtype=bool)
        for contour in region.get("ContourSequence", ()):
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            index = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()])
            k = int(np.rint(index[0, 2]))
            assert np.abs(index[:, 2] - k).max() < 1e-4  # in the plane
            named = files[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            np.testing.assert_allclose(places[k], named.ImagePositionPatient, atol=1e-3)
            mask[..., k] |= polygon2mask((columns, rows), index[:, :2])
        value = ORGANS[names[region.ReferencedROINumber]]
        np.testing.assert_array_equal(mask, drawn.labels.array == value)


@pytest.mark.parametrize("directions", [None, OBLIQUE], ids=["axial", "oblique"])
def test_rt_utils_reads_the_mask_voxel_for_voxel(tmp_path: Path, directions: np.ndarray | None) -> None:
    pytest.importorskip("cv2", reason="OpenCV needs libGL on this machine", exc_type=ImportError)
    from rt_utils import RTStructBuilder

    # rt-utils 1.2.7 takes rows for columns in pixels and pictures that are not square.
    how = {"shape": (24, 24, 10), "spacing_mm": (0.8, 0.8, 2.5), "directions": directions, "backwards": True}
    series, labels = draw(tmp_path / "series", **how)
    path = write_dicom_labels(labels, ORGANS, series, tmp_path / "a.rtstruct.dcm", BUNDLE)
    theirs = RTStructBuilder.create_from(dicom_series_path=str(series), rt_struct_path=str(path))
    assert theirs.get_roi_names() == list(ORGANS)
    for organ in ("LeftParotid", "mandible", "печень"):
        mask = theirs.get_roi_mask_by_name(organ).transpose(1, 0, 2)
        np.testing.assert_array_equal(mask, labels.array == ORGANS[organ])


def test_what_rt_utils_writes_is_read(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV needs libGL on this machine", exc_type=ImportError)
    from rt_utils import RTStructBuilder

    series, _ = draw(tmp_path / "series", shape=(24, 24, 10), spacing_mm=(0.8, 0.8, 2.5), backwards=True)
    ball = np.linalg.norm((np.indices((24, 24, 10)).T - [12, 11, 5]) / [1, 1, 0.4], axis=-1).T < 9
    builder = RTStructBuilder.create_new(dicom_series_path=str(series))
    builder.add_roi(mask=ball.transpose(1, 0, 2), name="ball")
    builder.save(str(tmp_path / "theirs.dcm"))
    masks = read_dicom_labels(tmp_path / "theirs.dcm", series)
    np.testing.assert_array_equal(masks.label_map({"Ball": 1}).array, ball)


def test_it_refers_to_its_series(drawn: Drawn, written: Path) -> None:
    slices = read_source_series(drawn.series).slices
    file = pydicom.dcmread(written)
    assert file.SOPClassUID == pydicom.uid.RTStructureSetStorage and file.Modality == "RTSTRUCT"
    for name in (
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "StudyDate",
    ):
        assert file[name].value == slices[0][name].value
    (frame,) = file.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    assert study.ReferencedSOPInstanceUID == slices[0].StudyInstanceUID
    assert series.SeriesInstanceUID == slices[0].SeriesInstanceUID
    named = [one.ReferencedSOPInstanceUID for one in series.ContourImageSequence]
    assert named == [one.SOPInstanceUID for one in slices]
    colours = organ_colours(list(ORGANS))
    regions = zip(file.StructureSetROISequence, file.ROIContourSequence, file.RTROIObservationsSequence, strict=True)
    for (region, contours, observed), (organ, value) in zip(regions, ORGANS.items(), strict=True):
        assert (region.ROIName, region.ROINumber, contours.ReferencedROINumber) == (organ, value, value)
        assert observed.ReferencedROINumber == value
        assert region.ReferencedFrameOfReferenceUID == slices[0].FrameOfReferenceUID
        assert region.ROIGenerationAlgorithm == "AUTOMATIC"
        assert region.ROIGenerationDescription == "head and neck 0.3.1"
        assert bytes(contours.ROIDisplayColor).hex() == colours[organ][1:]
    parotid = file.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0]
    assert (parotid.CodeValue, parotid.CodingSchemeDesignator) == ("45289007", "SCT")
    assert parotid.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    interpreted = [observed.RTROIInterpretedType for observed in file.RTROIObservationsSequence]
    assert interpreted == ["ORGAN", "ORGAN", "", "ORGAN"]
    assert "ContourSequence" not in file.ROIContourSequence[3]  # the organ that has no voxel


def test_it_comes_back_as_it_went(drawn: Drawn, written: Path) -> None:
    masks = read_dicom_labels(written, drawn.series)
    assert dict(masks.values) == ORGANS
    np.testing.assert_array_equal(masks.label_map().array, drawn.labels.array)


def test_outlines_may_overlap_and_points_are_none(oblique: Drawn, tmp_path: Path) -> None:
    low, high = (np.zeros(oblique.labels.shape, dtype=np.uint8) for _ in range(2))
    low[4:12, 4:12, 3:6], high[8:16, 8:16, 3:6] = 1, 1
    files = []
    for name, array in (("low", low), ("high", high)):
        path = tmp_path / f"{name}.rtstruct.dcm"
        write_dicom_labels(Volume(array, oblique.labels.affine), {name: 1}, oblique.series, path, BUNDLE)
        files.append(pydicom.dcmread(path))
    both, other = files
    for sequence, number in (("StructureSetROISequence", "ROINumber"), ("ROIContourSequence", "ReferencedROINumber")):
        setattr(other[sequence][0], number, 2)
        both[sequence].value.append(other[sequence][0])
    point = pydicom.Dataset()
    point.ContourGeometricType, point.NumberOfContourPoints, point.ContourData = "POINT", 1, [0, 0, 0]
    region, isocentre = pydicom.Dataset(), pydicom.Dataset()
    region.ROINumber, region.ROIName = isocentre.ReferencedROINumber, _ = 3, "isocentre"
    region.ReferencedFrameOfReferenceUID = both.FrameOfReferenceUID
    isocentre.ContourSequence = [point]
    both.StructureSetROISequence.append(region)
    both.ROIContourSequence.append(isocentre)
    both.save_as(tmp_path / "both.dcm")
    masks = read_dicom_labels(tmp_path / "both.dcm", oblique.series)
    assert dict(masks.values) == {"low": 1, "high": 2}
    with pytest.warns(UserWarning, match="48 voxels of high are those of organs named before"):
        labels = masks.label_map()
    np.testing.assert_array_equal(labels.array, np.where(high, 2, low))
    with pytest.raises(VolumeError, match="has no outline named 'middle', only 'low', 'high'"):
        masks.label_map({"middle": 1})


@pytest.mark.parametrize("numbers", [(0, 1, 2, 3), (5, 70000, 6, 7)])
def test_numbers_that_are_no_label_values_become_places(
    drawn: Drawn, written: Path, tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    dataset = pydicom.dcmread(written)
    renumbered = dict(zip((int(one.ROINumber) for one in dataset.StructureSetROISequence), numbers, strict=False))
    for one in dataset.StructureSetROISequence:
        one.ROINumber = renumbered[int(one.ROINumber)]
    for one in (*dataset.ROIContourSequence, *dataset.RTROIObservationsSequence):
        one.ReferencedROINumber = renumbered[int(one.ReferencedROINumber)]
    dataset.save_as(tmp_path / "other.rtstruct.dcm")
    masks = read_dicom_labels(tmp_path / "other.rtstruct.dcm", drawn.series)
    assert list(masks.values.values()) == list(range(1, 1 + len(masks.values)))
    found = masks.label_map()
    for name, value in masks.values.items():
        np.testing.assert_array_equal(found.array == value, drawn.labels.array == ORGANS[name])
    with pytest.raises(VolumeError, match=r"from 1 to 65535, got \{'mandible': 70000\}"):
        masks.label_map({"LeftParotid": 1, "mandible": 70000})


def test_directions_of_four_decimals_are_those_of_the_scan(tmp_path: Path) -> None:
    directions = OBLIQUE.copy()
    directions[:, :2] = directions[:, :2].round(4)
    series, labels = draw(tmp_path / "series", (192, 160, 10), spacing_mm=(0.7, 0.7, 4.0), directions=directions)
    for suffix in (".rtstruct.dcm", ".seg.dcm"):
        file = write_dicom_labels(labels, ORGANS, series, tmp_path / f"outlines{suffix}", BUNDLE)
        found = read_dicom_labels(file, series).label_map({"mandible": 4})
        np.testing.assert_array_equal(found.array == 4, labels.array == 4)
