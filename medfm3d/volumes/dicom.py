"""A DICOM series folder, by GDCM through SimpleITK, with the checks that the reader leaves out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.itk_files import from_itk
from medfm3d.volumes.paths import is_dicom_file, is_no_scan
from medfm3d.volumes.volume import Volume

# DICOM PS3.3, C.7.6.2, image plane module: tag, name, how many numbers
_ORIENTATION = ("0020|0037", "orientation", 6)
_POSITION = ("0020|0032", "position", 3)
_PIXEL_SPACING = ("0028|0030", "pixel spacing", 2)
_SERIES_DESCRIPTION, _MODALITY = "0008|103e", "0008|0060"
GAP_TOLERANCE = 0.05  # of the slice distance; exports round positions to 0.01 mm or so
TILT_TOLERANCE = 1e-3  # sine of the angle between slice normal and stacking direction


@dataclass(frozen=True)
class _Slice:
    file: str
    position_mm: np.ndarray
    directions: np.ndarray  # 2 x 3, LPS
    pixel_mm: np.ndarray
    pixels: tuple[int, ...]


def read_dicom_series(folder: Path, series_uid: str | None = None) -> Volume:
    """Read the one series of a folder, slices in the order of their places along the normal.

    Args:
        folder: folder that holds the slices.
        series_uid: which series to read where there are several.

    Raises:
        VolumeError: if the folder holds no or several series, or not the one named; if slices are missing, doubled,
            turned against each other or shifted sideways (a tilted gantry); if a file is multi-frame or unreadable.
    """
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in series_slices(folder, series_uid)])
    # Each slice may have a rescale slope of its own (PET, some MR); else all would be forced into the first one's type.
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise VolumeError(f"{folder}: cannot be read ({str(error).splitlines()[-1]}); export it again") from error
    return from_itk(image, folder)


def series_slices(folder: Path, series_uid: str | None = None) -> list[Path]:
    """Return the files of the one series of a folder, checked, in the order of their places along the normal.

    Arguments and errors as of `read_dicom_series`.
    """
    slices = [_read_place(file) for file in _series_files(folder, series_uid)]
    _check_stack(folder, slices)
    return [Path(piece.file) for piece in _sorted_along_normal(slices)]


def _series_files(folder: Path, series_uid: str | None) -> tuple[str, ...]:
    listed = {
        uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    }
    # Outlines and plans often lie beside the slices that they belong to.
    files = {uid: names for uid, names in listed.items() if uid == series_uid or not is_no_scan(Path(names[0]))}
    found = list(files)
    if not found:
        raise VolumeError(f"{folder}: holds no DICOM series; name the folder that holds the slices themselves")
    if series_uid is None and len(found) > 1:
        described = "; ".join(_describe(folder, uid) for uid in found)
        raise VolumeError(
            f"{folder}: holds {len(found)} series ({described}); move each into a folder of its own, or name one by "
            "series_uid"
        )
    chosen = series_uid or found[0]
    if chosen not in found:
        raise VolumeError(f"{folder}: has no series {chosen}; it holds {', '.join(found)}")
    _check_none_is_passed_over(folder, {Path(name).name for names in listed.values() for name in names})
    return files[chosen]


def _check_none_is_passed_over(folder: Path, listed: set[str]) -> None:
    """Check that no damaged slice is missing unnoticed at the end of the stack: GDCM lists only what it can read."""
    for file in sorted(folder.iterdir()):
        if file.name not in listed and is_dicom_file(file) and not is_no_scan(file):
            raise VolumeError(f"{file}: is no readable DICOM file; copy or export it again, or take it out")


def _describe(folder: Path, uid: str) -> str:
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
    reader = _header(files[0])
    words = [reader.GetMetaData(tag).strip() for tag in (_MODALITY, _SERIES_DESCRIPTION) if reader.HasMetaDataKey(tag)]
    return f"{uid}: {' '.join(words)}, {len(files)} files"


def _header(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise VolumeError(
            f"{file}: is not a readable DICOM file ({str(error).splitlines()[-1]}); export it again"
        ) from error
    return reader


def _read_place(file: str) -> _Slice:
    reader = _header(file)
    if len(reader.GetSize()) > 2 and reader.GetSize()[2] > 1:
        raise VolumeError(f"{file}: is a multi-frame file, which is not supported; convert it to NIfTI (dcm2niix does)")
    if reader.GetNumberOfComponents() != 1:
        raise VolumeError(f"{file}: holds a colour picture; choose the series of the scan itself")
    directions = _numbers(file, reader, *_ORIENTATION).reshape(2, 3)
    pixel_mm = _numbers(file, reader, *_PIXEL_SPACING)
    if not (pixel_mm > 0).all():
        raise VolumeError(f"{file}: pixel spacing is {pixel_mm.tolist()} mm; export the original scan series again")
    return _Slice(file, _numbers(file, reader, *_POSITION), directions, pixel_mm, reader.GetSize()[:2])


def _numbers(file: str, reader: sitk.ImageFileReader, tag: str, name: str, count: int) -> np.ndarray:
    text = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
    try:
        numbers = np.array([float(number) for number in text.split("\\")])
    except ValueError:
        numbers = np.zeros(0)
    if numbers.size != count:
        raise VolumeError(
            f"{file}: has no image {name} ({tag}) that can be read, so its place is unknown; choose the original scan "
            "series, or export it again"
        )
    return numbers


def _sorted_along_normal(slices: list[_Slice]) -> list[_Slice]:
    normal = np.cross(*slices[0].directions)
    return sorted(slices, key=lambda piece: float(piece.position_mm @ normal))


def _check_stack(folder: Path, slices: list[_Slice]) -> None:
    if len(slices) < 2:
        raise VolumeError(f"{folder}: its series has a single slice; give the whole series")
    first = slices[0].directions
    turned = [piece.file for piece in slices if np.abs(piece.directions - first).max() > 1e-3]
    if turned:
        raise VolumeError(f"{folder}: slices lie in different planes ({turned[0]}); take the localizer slices out")
    other = [piece.file for piece in slices if np.abs(piece.pixel_mm / slices[0].pixel_mm - 1).max() > 1e-3]
    if other:
        raise VolumeError(f"{folder}: slices have pixels of different sizes ({other[0]}); keep those of one scan")
    other = [piece.file for piece in slices if piece.pixels != slices[0].pixels]
    if other:
        raise VolumeError(f"{folder}: slices have different numbers of pixels ({other[0]}); keep those of one scan")
    slices = _sorted_along_normal(slices)
    normal = np.cross(*first)
    places = np.array([piece.position_mm for piece in slices])
    gaps = np.diff(places @ normal)
    step = float(np.median(gaps))
    if step <= 0 or gaps.min() < 0.5 * step:
        n = int(gaps.argmin())
        raise VolumeError(
            f"{folder}: {slices[n].file} and {slices[n + 1].file} lie {gaps[n]:.3g} mm apart where {step:.3g} mm is "
            "usual; the folder mixes several phases or copies, keep one"
        )
    uneven = np.abs(gaps - step) > GAP_TOLERANCE * step
    if uneven.any():
        n = int(np.abs(gaps - step).argmax())
        raise VolumeError(
            f"{folder}: {gaps[n]:.3g} mm between {slices[n].file} and {slices[n + 1].file} where {step:.3g} mm is "
            "usual: a slice is missing or the distance changes; export the whole series, or resample it to even slices"
        )
    way = places[-1] - places[0]
    sideways = np.linalg.norm(way - (way @ normal) * normal) / np.linalg.norm(way)
    if sideways > TILT_TOLERANCE:
        angle = np.degrees(np.arcsin(sideways))
        raise VolumeError(
            f"{folder}: the gantry is tilted by {angle:.2f} degrees, slices are shifted against each other; resample "
            "the series onto an orthogonal grid first (dcm2niix does so)"
        )
