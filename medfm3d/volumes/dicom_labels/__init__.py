"""Outlines in the formats of the clinic: DICOM SEG and RTSTRUCT, with all that ties them to their scan.

pydicom and highdicom take time to load, so that the room above does not; import what is needed from here.
"""

from medfm3d.volumes.dicom_labels.labels_file import labelled_series_uid, read_dicom_labels, write_dicom_labels
from medfm3d.volumes.dicom_labels.made_by import MadeBy, made_by_bundle
from medfm3d.volumes.dicom_labels.named_masks import NamedMasks
from medfm3d.volumes.dicom_labels.organ_codes import OrganCode, organ_code, uncoded_organs
from medfm3d.volumes.dicom_labels.source_series import SourceSeries, read_source_series

__all__ = [
    "MadeBy",
    "NamedMasks",
    "OrganCode",
    "SourceSeries",
    "labelled_series_uid",
    "made_by_bundle",
    "organ_code",
    "read_dicom_labels",
    "read_source_series",
    "uncoded_organs",
    "write_dicom_labels",
]
