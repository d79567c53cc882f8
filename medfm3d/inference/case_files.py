"""Files beside the masks that say something of each case."""

import json
from pathlib import Path
from typing import Any

from medfm3d.volumes import output_name


def case_file(output_dir: str | Path, scan: str | Path, suffix: str) -> Path:
    """Return the file of a scan NAME in a folder of masks: NAME and the suffix."""
    return Path(output_dir) / f"{output_name(scan)}{suffix}"


def find_case_files(folder: str | Path, suffix: str) -> list[Path]:
    """Return the files with a suffix in a folder of masks, by name; hidden ones, not yet complete, are left out."""
    return sorted(path for path in Path(folder).glob(f"*{suffix}") if not path.name.startswith("."))


def read_case_lists(folder: str | Path, suffix: str) -> list[dict[str, Any]] | None:
    """Return the entries of all such files that hold lists, each with its `case`; None if there is no file."""
    files = find_case_files(folder, suffix)
    if not files:
        return None
    return [
        {"case": file.name.removesuffix(suffix), **entry}
        for file in files
        for entry in json.loads(file.read_text(encoding="utf-8"))
    ]
