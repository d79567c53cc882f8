"""DICOM SEG: what other programs read out of it, and what it refers to."""

import json
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drawn_series import BUNDLE, ORGANS, Drawn

from medfm3d.volumes import Volume, reorient
from medfm3d.volumes.dicom_labels import read_dicom_labels, read_source_series, write_dicom_labels
from medfm3d.volumes.itk_files import from_itk
from medfm3d.volumes.palette import organ_colours


@pytest.fixture
def written(drawn: Drawn, tmp_path: Path) -> Path:
    # The label map's axes need not be those of the series.
    return write_dicom_labels(reorient(drawn.labels, "RAS"), ORGANS, drawn.series, tmp_path / "a.seg.dcm", BUNDLE)


def laid_onto(grid: Volume, image: Volume) -> np.ndarray:
    """Return a mask on a grid, voxel by voxel through their places in the patient."""
    places = np.argwhere(image.array > 0) @ image.affine[:3, :3].T + image.affine[:3, 3]
    found = (places - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T
    assert np.abs(found - np.rint(found)).max(initial=0) < 1e-3
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(np.rint(found).astype(int).T)] = True
    return mask


def test_dcmqi_reads_the_mask_voxel_for_voxel(drawn: Drawn, written: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("segimage2itkimage")
    done = subprocess.run(
        [program, "--inputDICOM", written, "--outputDirectory", tmp_path, "-t", "nrrd"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "meta.json").read_text())["segmentAttributes"]
    labels = {number: group[0]["SegmentLabel"] for number, group in enumerate(told, start=1)}
    assert list(labels.values()) == list(ORGANS)
    assert told[0][0]["SegmentedPropertyTypeModifierCodeSequence"]["CodeMeaning"] == "Left"
    for number, organ in labels.items():
        mask = laid_onto(drawn.labels, from_itk(sitk.ReadImage(str(tmp_path / f"{number}.nrrd"))))
        np.testing.assert_array_equal(mask, drawn.labels.array == ORGANS[organ])


def test_pydicom_seg_reads_the_mask_voxel_for_voxel(drawn: Drawn, written: Path) -> None:
    from medfm3d.serving.pydicom_shim import install_shim

    install_shim()
    pydicom_seg = pytest.importorskip("pydicom_seg", reason="comes with the extra 'label'")
    result = pydicom_seg.SegmentReader().read(pydicom.dcmread(written))
    for number, value in enumerate(ORGANS.values(), start=1):
        mask = laid_onto(drawn.labels, from_itk(result.segment_image(number)))
        np.testing.assert_array_equal(mask, drawn.labels.array == value)


def test_it_refers_to_its_series_slice_by_slice(drawn: Drawn, written: Path) -> None:
    slices = {one.SOPInstanceUID: one for one in read_source_series(drawn.series).slices}
    first = next(iter(slices.values()))
    seg = pydicom.dcmread(written)
    assert seg.SOPClassUID == pydicom.uid.SegmentationStorage
    assert seg.SegmentationType == "BINARY"
    for name in (
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "StudyDate",
    ):
        assert seg[name].value == first[name].value
    assert seg.SeriesInstanceUID != first.SeriesInstanceUID
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == list(slices)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert list(place) == pytest.approx(list(slices[source.ReferencedSOPInstanceUID].ImagePositionPatient))
    # slices without an organ need no frame
    held = [np.unique(drawn.labels.array[..., k]) for k in range(drawn.labels.shape[2])]
    assert int(seg.NumberOfFrames) == sum(np.count_nonzero(ids) for ids in held)


def test_segments_have_codes_colours_and_an_author(drawn: Drawn, written: Path) -> None:
    seg = highdicom.seg.segread(written)
    assert (seg.Manufacturer, seg.ManufacturerModelName) == ("medfm3d", BUNDLE.name)
    assert (seg.DeviceSerialNumber, seg.SoftwareVersions[:8]) == (BUNDLE.serial, "medfm3d ")
    parotid, mandible, unknown, spleen = (seg.get_segment_description(number) for number in range(1, 5))
    assert parotid.segmented_property_type == highdicom.sr.CodedConcept("45289007", "SCT", "Parotid gland")
    (side,) = parotid.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert side == highdicom.sr.CodedConcept("7771000", "SCT", "Left")
    assert mandible.segmented_property_type.value == "91609006"
    assert (unknown.segmented_property_type.scheme_designator, unknown.segment_label) == ("99MEDFM3D", "печень")
    assert seg.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99MEDFM3D"
    assert spleen.segment_label == "spleen" and spleen.SegmentDescription == "label value 12"
    colours = organ_colours(list(ORGANS))
    for segment in (parotid, mandible, unknown, spleen):
        assert segment.algorithm_type.value == "AUTOMATIC"
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (BUNDLE.name, BUNDLE.version)
        lab = highdicom.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue)
        assert lab.to_rgb() == pytest.approx(tuple(bytes.fromhex(colours[segment.segment_label][1:])), abs=2)


def test_it_comes_back_as_it_went(drawn: Drawn, written: Path) -> None:
    masks = read_dicom_labels(written, drawn.series)
    assert dict(masks.values) == ORGANS
    labels = masks.label_map()
    np.testing.assert_array_equal(labels.array, drawn.labels.array)
    np.testing.assert_allclose(labels.affine, drawn.labels.affine, atol=1e-4)


def test_a_mask_without_any_voxel_is_a_segmentation_too(drawn: Drawn, tmp_path: Path) -> None:
    empty = Volume(np.zeros_like(drawn.labels.array), drawn.labels.affine)
    path = write_dicom_labels(empty, ORGANS, drawn.series, tmp_path / "empty.seg.dcm", BUNDLE)
    masks = read_dicom_labels(path, drawn.series)
    assert set(masks.masks) == set(ORGANS)
    assert not masks.label_map().array.any()
