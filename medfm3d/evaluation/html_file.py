"""A page, written whole or not at all."""

from pathlib import Path

from medfm3d.volumes.whole_file import whole_file


def write_page(output: Path, page: str) -> Path:
    """Write a page to a temporary file beside its place, move it there and return its path; folders are made."""
    with whole_file(output) as whole:
        whole.write_text(page, encoding="utf-8", errors="replace")  # names of files need not be UTF-8
    return output
