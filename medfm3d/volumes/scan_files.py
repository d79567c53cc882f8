"""Which files a scan is made of."""

import re
from pathlib import Path

# Where the voxels lie, as MetaImage and NRRD headers say (NRRD format, section 4: "data file" or "datafile").
_VOXELS = {
    ".mhd": re.compile(rb"^\s*ElementDataFile\s*=\s*(.+?)\s*$", re.MULTILINE),
    ".nhdr": re.compile(rb"^data ?file:\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE),
}
_HEADER_BYTES = 1 << 16


def scan_files(scan: str | Path) -> list[Path]:
    """Return the files that a scan is made of, sorted: a change of any of them changes the scan.

    Of a DICOM series these are all files in its folder; of a header without voxels (.mhd, .nhdr) itself and the file
    that it names, or all files beside it if it names none that is there, but a list or a pattern. A scan that does not
    exist is made of none.
    """
    scan = Path(scan)
    if scan.is_dir():
        return sorted(file for file in scan.iterdir() if file.is_file())
    if not scan.is_file():
        return []
    pattern = _VOXELS.get(scan.suffix.lower())
    if pattern is None:
        return [scan]
    with scan.open("rb") as header:
        named = pattern.findall(header.read(_HEADER_BYTES))
    voxels = scan.parent / named[-1].decode(errors="replace") if named else scan.parent
    beside = [voxels] if voxels.is_file() else [file for file in scan.parent.iterdir() if file.is_file()]
    return sorted({scan, *beside})
