"""DICOM RT Structure Sets as masks on their scan's grid."""

from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset

from medfm3d.volumes.dicom_labels.contours import fill_polygons
from medfm3d.volumes.dicom_labels.named_masks import MAX_LABEL, NamedMasks, OneByOne
from medfm3d.volumes.dicom_labels.source_series import SourceSeries
from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.itk_files import LPS_TO_RAS
from medfm3d.volumes.volume import Volume

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_OFF_PLANE = 0.5  # of the slice distance: a contour belongs to the slice that is nearest


def masks_of_rtstruct(dataset: Dataset, source: Path, series: SourceSeries) -> NamedMasks:
    """Return the regions of a structure set as masks by name, on the grid of its series.

    A voxel is inside if its centre is, within an odd number of the region's contours in its slice, or on one's edge.
    Regions without contours give empty masks; points and open lines, as of isocentres, are no masks and left out.

    Args:
        dataset: the whole file.
        source: its path, for messages.
        series: that it was drawn on.

    Raises:
        VolumeError: if it refers to another frame of reference, or two regions have the same name; from the masks, if
            a contour lies off the slices' planes.
    """
    regions = {int(region.ROINumber): region for region in dataset.get("StructureSetROISequence", ())}
    found = {str(region.get("ReferencedFrameOfReferenceUID", "")) for region in regions.values()}
    if other := found - {str(series.slices[0].FrameOfReferenceUID)}:
        raise VolumeError(
            f"{source}: was drawn in another frame of reference ({', '.join(sorted(other)) or 'none'}) than that of "
            f"{series.folder}; name the scan that it was drawn on"
        )
    contours = {
        int(one.ReferencedROINumber): one.get("ContourSequence") or () for one in dataset.get("ROIContourSequence", ())
    }
    makers, values = {}, {}
    for number, region in regions.items():
        name = str(region.get("ROIName", "")) or f"region {number}"
        drawn = contours.get(number, ())
        closed = [one for one in drawn if str(one.ContourGeometricType) in _CLOSED]
        if drawn and not closed:
            continue
        if name in makers:
            raise VolumeError(f"{source}: has two regions named {name!r}; rename one")
        makers[name] = partial(_mask, closed, name, source, series)
        values[name] = number
    if any(not 1 <= number <= MAX_LABEL for number in values.values()):
        values = {name: position for position, name in enumerate(values, 1)}  # a number there need be no label value
    return NamedMasks(source, OneByOne(makers), values)


def _mask(contours: list[Dataset], name: str, source: Path, series: SourceSeries) -> Volume:
    return series.labels(_filled(contours, f"{source}: {name}", series), source)


def _filled(contours: list[Dataset], what: str, series: SourceSeries) -> np.ndarray:
    columns, rows, slices = series.grid.shape
    from_patient = np.linalg.inv(LPS_TO_RAS @ series.grid.affine)
    by_slice = defaultdict(list)
    for contour in contours:
        points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
        column, row, place = from_patient[:3, :3] @ points.T + from_patient[:3, 3:]
        number = int(np.rint(np.median(place)))
        if np.abs(place - number).max() > _OFF_PLANE:
            raise VolumeError(
                f"{what}: has a contour that leaves the plane of its slice by {np.abs(place - number).max():.2g} "
                "slices, as those drawn on another orientation or series do; name the series that it was drawn on"
            )
        if not 0 <= number < slices:
            raise VolumeError(f"{what}: has a contour beyond the slices of {series.folder}; name its own series")
        by_slice[number].append(np.stack([row, column], axis=1))
    frames = np.zeros((slices, rows, columns), dtype=bool)
    for number, polygons in by_slice.items():
        frames[number] = fill_polygons(polygons, (rows, columns))
    return frames
