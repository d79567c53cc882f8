"""The series that outlines belong to: its slices, what they share, and its grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from medfm3d.volumes.check import GRID_TOLERANCE, check_same_grid
from medfm3d.volumes.dicom import series_slices
from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.itk_files import LPS_TO_RAS
from medfm3d.volumes.volume import Volume

_SHARED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID")
# PS3.3, tables C.7-1 and C.7-3: present, but empty where not known.
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The headers of a DICOM series and the grid that its slices lie on.

    Attributes:
        folder: where it was read from.
        slices: header of each slice, along the normal, without pixels.
        grid: its voxels' places, (columns, rows, slices) as `read_volume` gives them; the array is empty of meaning.
    """

    folder: Path
    slices: tuple[Dataset, ...]
    grid: Volume

    def frames(self, labels: Volume) -> np.ndarray:
        """Return a label map as frames, (slices, rows, columns), in the order of the slices.

        The map's axes may be in another order or direction, as after reorientation; its voxels must be the series' own.

        Raises:
            VolumeError: if they are not.
        """
        return np.ascontiguousarray(turned_onto(self.grid, labels).array.transpose(2, 1, 0))

    def labels(self, frames: np.ndarray, source: Path | None = None) -> Volume:
        """Return frames, (slices, rows, columns), as a label map on the series' grid."""
        return Volume(np.ascontiguousarray(frames.transpose(2, 1, 0)), self.grid.affine, source)


def read_source_series(folder: str | Path, series_uid: str | None = None) -> SourceSeries:
    """Read the headers of the series in a folder, with the checks of `read_volume`.

    Args:
        folder: folder that holds the slices.
        series_uid: which series where there are several.

    Raises:
        VolumeError: if there is no folder of slices, as a NIfTI file has none; if slices lack the identifiers that
            outlines refer to, share them, or differ in patient, study or frame of reference.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VolumeError(
            f"{folder}: is no DICOM series, so there is nothing that DICOM outlines could refer to; name the folder "
            "with the series' slices, or write NIfTI"
        )
    files = series_slices(folder, series_uid)
    slices = tuple(dcmread(file, stop_before_pixels=True, force=True) for file in files)
    for file, one in zip(files, slices, strict=True):
        for name in (*_NEEDED, "SOPInstanceUID", "SOPClassUID"):
            if not one.get(name):
                raise VolumeError(f"{file}: has no {name}, which outlines must refer to; export the series again")
    for name in _SHARED:
        found = {str(one.get(name, "")) for one in slices}
        if len(found) > 1:
            raise VolumeError(
                f"{folder}: its slices have {len(found)} different values of {name} ({', '.join(sorted(found)[:3])}), "
                "so they are no single series of one patient; export it again"
            )
    if len({one.SOPInstanceUID for one in slices}) < len(slices):
        raise VolumeError(f"{folder}: slices share one SOPInstanceUID; export the series again")
    grid = _grid(folder, slices)
    for one in slices:
        _complete(one, grid.spacing_mm[2])
    return SourceSeries(folder, slices, grid)


def _complete(header: Dataset, distance_mm: float) -> None:
    """Give a header the attributes that it must have, if empty ones (type 2), and that anonymisers take away."""
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, None)
    if not header.get("SliceThickness"):
        header.SliceThickness = round(float(distance_mm), 6)  # slices side by side, which is what a mask's voxels say


def turned_onto(grid: Volume, labels: Volume, *, tolerance: float = GRID_TOLERANCE) -> Volume:
    """Return a label map with its axes in the order and direction of a grid; nothing is interpolated.

    Raises:
        VolumeError: if its voxels are not those of the grid, but for the tolerance of `check_same_grid`.
    """
    change = np.linalg.inv(grid.affine[:3, :3]) @ labels.affine[:3, :3]
    axes = np.abs(change).argmax(axis=0)  # of the grid, for each axis of the labels
    if sorted(axes) == [0, 1, 2] and labels.array.ndim == 3:
        order = np.argsort(axes)
        back = [slice(None, None, -1 if change[axis, number] < 0 else 1) for axis, number in enumerate(order)]
        first = [labels.shape[n] - 1 if change[axis, n] < 0 else 0 for axis, n in enumerate(order)]
        origin = labels.affine @ [*np.array(first)[axes], 1]
        affine = labels.affine.copy()
        affine[:3, :3] = labels.affine[:3, order] * [step.step for step in back]
        affine[:3, 3] = origin[:3]
        labels = Volume(labels.array.transpose(order)[tuple(back)], affine, labels.source)
    check_same_grid(grid, labels, tolerance=tolerance)
    return labels


def _grid(folder: Path, slices: tuple[Dataset, ...]) -> Volume:
    first, last = slices[0], slices[-1]
    along_row, along_column = np.array(first.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    # Written with few decimals they are neither of length one nor orthogonal; ITK, which reads the scan, makes them so.
    along_column /= np.linalg.norm(along_column)
    along_row -= (along_row @ along_column) * along_column
    along_row /= np.linalg.norm(along_row)
    between_rows, between_columns = (float(size) for size in first.PixelSpacing)
    start, end = (np.array(one.ImagePositionPatient, dtype=np.float64) for one in (first, last))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_row * between_columns, along_column * between_rows
    affine[:3, 2] = (end - start) / (len(slices) - 1)
    affine[:3, 3] = start
    shape = (int(first.Columns), int(first.Rows), len(slices))
    return Volume(np.broadcast_to(np.uint8(0), shape), LPS_TO_RAS @ affine, folder)
