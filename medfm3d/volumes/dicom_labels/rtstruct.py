"""Label maps as DICOM RT Structure Sets (PS3.3, A.19)."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from scipy.ndimage import find_objects

from medfm3d.volumes.dicom_labels.contours import slice_polygons
from medfm3d.volumes.dicom_labels.dicom_seg import algorithm_identification
from medfm3d.volumes.dicom_labels.made_by import LONGEST, MANUFACTURER, MadeBy
from medfm3d.volumes.dicom_labels.named_masks import check_organs
from medfm3d.volumes.dicom_labels.organ_codes import ANATOMICAL_STRUCTURE, organ_code
from medfm3d.volumes.dicom_labels.source_series import SourceSeries
from medfm3d.volumes.palette import organ_colours
from medfm3d.volumes.volume import Volume

SERIES_NUMBER = 7002
_DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"  # retired, and still what structure sets name here
_DECIMALS = 5  # of millimetres; a value of representation DS takes 16 characters


def rtstruct(labels: Volume, organs: Mapping[str, int], series: SourceSeries, made_by: MadeBy) -> Dataset:
    """Return a label map as a structure set of its series, one region of interest for each organ.

    Regions are numbered by their label values. Contours are CLOSED_PLANAR polygons in the planes of the slices, in
    millimetres of the patient, as `slice_polygons` draws them. An organ without a voxel is a region without contours.

    Args:
        labels: the label map, on the grid of the series.
        organs: each organ's label value.
        series: that the labels were drawn on.
        made_by: what drew them.

    Raises:
        VolumeError: if the labels lie on another grid, or hold values that no organ has; if a name is too long for
            DICOM.
    """
    check_organs(labels, organs)
    frames = series.frames(labels)
    structures, now = _new_file(series, made_by), datetime.now()
    structures.StructureSetLabel = "ORGANS"
    structures.StructureSetName = f"Organs by {made_by.name}"[:LONGEST]
    structures.StructureSetDate, structures.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    structures.ReferencedFrameOfReferenceSequence = [_references(series)]
    colours = organ_colours(list(organs))
    structures.StructureSetROISequence = [_region(o, value, series, made_by) for o, value in organs.items()]
    boxes = find_objects(frames, max_label=max(organs.values()))
    structures.ROIContourSequence = [
        _contours(value, colours[organ], _polygons(frames, value, boxes[value - 1], series))
        for organ, value in organs.items()
    ]
    structures.RTROIObservationsSequence = [_observation(organ, value) for organ, value in organs.items()]
    structures.ApprovalStatus = "UNAPPROVED"
    return structures


def _new_file(series: SourceSeries, made_by: MadeBy) -> hd.SOPClass:
    """Return a structure set with its header: patient and study of the series, and what made it."""
    scan = series.slices[0]
    structures = hd.SOPClass(
        study_instance_uid=scan.StudyInstanceUID,
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        sop_class_uid=RTStructureSetStorage,
        instance_number=1,
        modality="RTSTRUCT",
        manufacturer=MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        manufacturer_model_name=made_by.name,
        software_versions=made_by.software,
        device_serial_number=made_by.serial,
        series_description=f"Organs by {made_by.name}"[:LONGEST],
        specific_character_set="ISO_IR 192",
    )
    structures.copy_patient_and_study_information(scan)
    structures.OperatorsName = ""
    structures.FrameOfReferenceUID = scan.FrameOfReferenceUID
    structures.PositionReferenceIndicator = scan.get("PositionReferenceIndicator", "")
    return structures


def _references(series: SourceSeries) -> Dataset:
    scan = series.slices[0]
    of_series = Dataset()
    of_series.SeriesInstanceUID = scan.SeriesInstanceUID
    of_series.ContourImageSequence = [_reference(one) for one in series.slices]
    study = Dataset()
    study.ReferencedSOPClassUID = _DETACHED_STUDY_MANAGEMENT
    study.ReferencedSOPInstanceUID = scan.StudyInstanceUID
    study.RTReferencedSeriesSequence = [of_series]
    frame = Dataset()
    frame.FrameOfReferenceUID = scan.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(one: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = one.SOPClassUID
    reference.ReferencedSOPInstanceUID = one.SOPInstanceUID
    return reference


def _region(organ: str, value: int, series: SourceSeries, made_by: MadeBy) -> Dataset:
    region = Dataset()
    region.ROINumber = value
    region.ReferencedFrameOfReferenceUID = series.slices[0].FrameOfReferenceUID
    region.ROIName = organ
    region.ROIGenerationAlgorithm = "AUTOMATIC" if made_by.automatic else "MANUAL"
    if made_by.automatic:
        region.ROIGenerationDescription = f"{made_by.name} {made_by.version}"[:LONGEST]
        region.ROIDerivationAlgorithmIdentificationSequence = algorithm_identification(made_by)
    return region


def _contours(value: int, colour: str, polygons: Iterator[tuple[Dataset, np.ndarray]]) -> Dataset:
    region = Dataset()
    region.ROIDisplayColor = list(bytes.fromhex(colour.removeprefix("#")))
    contours = []
    for one, polygon in polygons:
        contour = Dataset()
        contour.ContourImageSequence = [_reference(one)]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(polygon)
        contour.ContourNumber = len(contours) + 1
        contour.ContourData = [f"{number:.{_DECIMALS}f}" for number in _in_patient(one, polygon).ravel()]
        contours.append(contour)
    if contours:
        region.ContourSequence = contours
    region.ReferencedROINumber = value
    return region


def _polygons(
    frames: np.ndarray, value: int, box: tuple[slice, ...] | None, series: SourceSeries
) -> Iterator[tuple[Dataset, np.ndarray]]:
    """Yield each slice's header and a polygon on it, of the label value within a box of the frames."""
    if box is None:
        return
    _, rows, columns = box
    for one, frame in zip(series.slices[box[0]], frames[box], strict=True):
        for polygon in slice_polygons(frame == value):
            yield one, polygon + np.array([rows.start, columns.start])


def _in_patient(one: Dataset, polygon: np.ndarray) -> np.ndarray:
    """Return corners, (N, 2) as row and column of a slice, in millimetres of the patient (PS3.3, C.7.6.2.1.1)."""
    along_row, along_column = np.array(one.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = (float(size) for size in one.PixelSpacing)
    corner = np.array(one.ImagePositionPatient, dtype=np.float64)
    return corner + polygon[:, :1] * between_rows * along_column + polygon[:, 1:] * between_columns * along_row


def _observation(organ: str, value: int) -> Dataset:
    code = organ_code(organ)
    kind = hd.sr.CodedConcept.from_code(code.type)
    if code.side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [hd.sr.CodedConcept.from_code(code.side)]
    observation = Dataset()
    observation.ObservationNumber = value
    observation.ReferencedROINumber = value
    observation.SegmentedPropertyCategoryCodeSequence = [hd.sr.CodedConcept.from_code(code.category)]
    observation.RTROIIdentificationCodeSequence = [kind]
    observation.RTROIInterpretedType = "ORGAN" if code.category == ANATOMICAL_STRUCTURE else ""
    observation.ROIInterpreter = ""
    return observation
