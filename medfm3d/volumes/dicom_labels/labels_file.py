"""DICOM SEG and RTSTRUCT files: written whole, told apart, and read."""

from collections.abc import Mapping
from pathlib import Path

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from medfm3d.volumes.dicom_labels.dicom_seg import dicom_seg, masks_of_dicom_seg
from medfm3d.volumes.dicom_labels.made_by import MadeBy
from medfm3d.volumes.dicom_labels.named_masks import NamedMasks
from medfm3d.volumes.dicom_labels.organ_codes import PRIVATE_SCHEME, uncoded_organs
from medfm3d.volumes.dicom_labels.rtstruct import rtstruct
from medfm3d.volumes.dicom_labels.rtstruct_masks import masks_of_rtstruct
from medfm3d.volumes.dicom_labels.source_series import SourceSeries, read_source_series
from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.paths import RTSTRUCT_SUFFIX, SEG_SUFFIX, dicom_labels_suffix
from medfm3d.volumes.volume import Volume
from medfm3d.volumes.whole_file import whole_file

_WRITERS = {SEG_SUFFIX: dicom_seg, RTSTRUCT_SUFFIX: rtstruct}


def write_dicom_labels(
    labels: Volume, organs: Mapping[str, int], series: SourceSeries | str | Path, path: str | Path, made_by: MadeBy
) -> Path:
    """Write a label map as DICOM SEG or RTSTRUCT, by the path's suffix `.seg.dcm` or `.rtstruct.dcm`.

    The file appears whole or not at all, and has new identifiers each time, as DICOM demands.

    Args:
        labels: the label map; axes may be turned, but its voxels must be the series' own.
        organs: each organ's label value.
        series: that the labels were drawn on, or its folder.
        path: the file.
        made_by: what drew them.

    Raises:
        VolumeError: for any other suffix, and as `read_source_series`, `dicom_seg` and `rtstruct`.
    """
    suffix = dicom_labels_suffix(path)
    if suffix is None:
        raise VolumeError(f"{path}: is no DICOM outline by its name; supported are {', '.join(_WRITERS)}")
    if not isinstance(series, SourceSeries):
        series = read_source_series(series)
    dataset = _WRITERS[suffix](labels, organs, series, made_by)
    if uncoded_organs(organs):
        dataset.CodingSchemeIdentificationSequence = [_private_scheme()]
    with whole_file(path) as whole:
        dataset.save_as(whole, enforce_file_format=True)
    return Path(path)


def read_dicom_labels(path: str | Path, series: SourceSeries | str | Path) -> NamedMasks:
    """Return what a DICOM SEG or RTSTRUCT file outlines, on the grid of its scan.

    Args:
        path: the file, whatever its name.
        series: that it was drawn on, or its folder.

    Raises:
        VolumeError: if it is neither, or was drawn on another series; and as `masks_of_dicom_seg` and
            `masks_of_rtstruct`.
    """
    path, dataset = Path(path), _read(Path(path))
    if not isinstance(series, SourceSeries):
        series = read_source_series(series)
    if dataset.SOPClassUID == RTStructureSetStorage:
        return masks_of_rtstruct(dataset, path, series)
    told = str(dataset.get("FrameOfReferenceUID", ""))
    if told != str(series.slices[0].FrameOfReferenceUID):
        raise VolumeError(
            f"{path}: was drawn in another frame of reference ({told or 'none'}) than that of {series.folder}; name "
            "the scan that it was drawn on"
        )
    return masks_of_dicom_seg(dataset, path, series.grid)


def labelled_series_uid(path: str | Path) -> str | None:
    """Return which series a DICOM SEG or RTSTRUCT file outlines, by the first reference; None for any other file."""
    try:
        dataset = dcmread(path, specific_tags=_REFERENCES, stop_before_pixels=True)
    except (InvalidDicomError, OSError):
        return None
    if dataset.get("SOPClassUID") == SegmentationStorage:
        referred = dataset.get("ReferencedSeriesSequence") or ()
    elif dataset.get("SOPClassUID") == RTStructureSetStorage:
        frames = dataset.get("ReferencedFrameOfReferenceSequence") or ()
        studies = [study for frame in frames for study in frame.get("RTReferencedStudySequence") or ()]
        referred = [series for study in studies for series in study.get("RTReferencedSeriesSequence") or ()]
    else:
        return None
    return next((str(series.SeriesInstanceUID) for series in referred), "")


_REFERENCES = ["SOPClassUID", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"]


def _read(path: Path) -> Dataset:
    try:
        dataset = dcmread(path)
        kind = dataset.get("SOPClassUID")
    except (InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise VolumeError(f"{path}: cannot be read as DICOM ({error}); copy or export it again") from error
    if kind not in (SegmentationStorage, RTStructureSetStorage):
        raise VolumeError(f"{path}: is neither DICOM SEG nor RTSTRUCT; name the file that holds the outlines")
    return dataset


def _private_scheme() -> Dataset:
    return CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME,
        name="Organs by their names in medfm3d, of which no code of SNOMED CT is known there",
        responsible_organization="medfm3d",
    )
