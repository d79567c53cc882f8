"""DICOM series made up for tests: any orientation, order of slices and voxel size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_series(
    folder: Path,
    array: np.ndarray,
    spacing_mm: Sequence[float] = (1.0, 1.0, 2.5),
    directions: np.ndarray | None = None,
    origin_mm: Sequence[float] = (-100.0, -50.0, 30.0),
    backwards: bool = False,
    patient: str = "Phantom^Ärmel",
) -> Path:
    """Write a CT series of an array, (columns, rows, slices), of whole numbers; directions are columns, in LPS.

    Backwards: names and numbers of the slices run against the normal.
    """
    folder.mkdir(parents=True)
    turn = np.eye(3) if directions is None else directions
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(array.shape[2]):
        number = array.shape[2] - k if backwards else k + 1
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SpecificCharacterSet = "ISO_IR 100"
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = patient, "P-17", "19500102", "F"
        one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber = "20240305", "101500", "S3", "A-4"
        one.ReferringPhysicianName = one.PositionReferenceIndicator = ""
        one.Modality, one.SeriesNumber, one.InstanceNumber = "CT", 3, number
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.Columns, one.Rows = array.shape[:2]
        one.PixelSpacing = [f"{spacing_mm[1]:.10g}", f"{spacing_mm[0]:.10g}"]
        one.SliceThickness = f"{spacing_mm[2]:.10g}"
        one.ImageOrientationPatient = [f"{value:.12g}" for value in (*turn[:, 0], *turn[:, 1])]
        one.ImagePositionPatient = [f"{value:.10g}" for value in np.array(origin_mm) + turn[:, 2] * spacing_mm[2] * k]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, 0, "HU"
        one.PixelData = np.ascontiguousarray(array[:, :, k].T, dtype=np.int16).tobytes()
        one.save_as(folder / f"slice_{number:03d}.dcm", enforce_file_format=True)
    return folder
