"""Which files are volumes, and what their cases are called."""

from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_NO_SCANS = {"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "SR", "PR", "KO"}  # PS3.3, C.7.3.1.1.1
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES
SEG_SUFFIX, RTSTRUCT_SUFFIX = ".seg.dcm", ".rtstruct.dcm"  # of outlines, by which they are written


def volume_suffix(path: str | Path) -> str | None:
    """Return the suffix by which a file is known as a volume, or None."""
    name = Path(path).name.lower()
    return next((suffix for suffix in VOLUME_SUFFIXES if name.endswith(suffix)), None)


def dicom_labels_suffix(path: str | Path) -> str | None:
    """Return the suffix by which a file is known as DICOM SEG or RTSTRUCT, or None."""
    name = Path(path).name.lower()
    return next((suffix for suffix in (SEG_SUFFIX, RTSTRUCT_SUFFIX) if name.endswith(suffix)), None)


def output_name(path: str | Path) -> str:
    """Return a scan's name without folder and suffix: what its mask is called."""
    name = Path(path).name
    if name in ("", ".."):
        name = Path(path).resolve().name
    suffix = volume_suffix(name) or dicom_labels_suffix(name)
    return name[: -len(suffix)] if suffix else name


def mask_path(folder: str | Path, scan: str | Path, suffix: str = ".nii.gz", postfix: str = "") -> Path:
    """Return the file of a scan's mask in a folder: the scan's name, a postfix if any after an underscore, a suffix."""
    return Path(folder) / f"{output_name(scan)}{f'_{postfix}' if postfix else ''}{suffix}"


def find_volumes(folder: str | Path) -> list[Path]:
    """Return the volume files and DICOM series folders in a folder, sorted by name.

    Hidden files are passed over. A folder without volume files that holds the slices of a series stands for it. A link
    to a file that is not there counts as a file, so that reading it says so.
    """
    folder = Path(folder)
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    files = [path for path in visible if volume_suffix(path) and (path.is_file() or _is_dangling(path))]
    if not files and is_dicom_folder(folder):
        return [folder]
    return sorted(files + [path for path in visible if path.is_dir() and is_dicom_folder(path)])


def is_dicom_folder(folder: str | Path) -> bool:
    """Return whether a folder holds DICOM slices directly, as `is_dicom_file` tells them, and not outlines alone."""
    return any(is_dicom_file(path) and not is_no_scan(path) for path in Path(folder).iterdir())


def is_dicom_file(path: Path) -> bool:
    """Return whether a file is a DICOM slice, by the "DICM" after the preamble (DICOM PS3.10, 7.1) or by its name.

    One that cannot be opened counts as a slice, so that reading it says what is wrong.
    """
    # A DICOMDIR is the table of contents of a medium (PS3.10, 8.6), and no slice.
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    if volume_suffix(path) or dicom_labels_suffix(path):
        return False
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return True


def is_no_scan(path: Path) -> bool:
    """Return whether a DICOM file holds outlines, a plan or a report, by its modality; not one that cannot be read."""
    try:
        return str(dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).get("Modality")) in _NO_SCANS
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return False


def _is_dangling(path: Path) -> bool:
    return path.is_symlink() and not path.exists()
