"""A page, written whole or not at all."""

import tempfile
from pathlib import Path


def write_page(output: Path, page: str) -> Path:
    """Write a page to a temporary file beside its place, move it there and return its path; folders are made."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=output.parent) as temporary:
        whole = Path(temporary) / output.name
        whole.write_text(page, encoding="utf-8", errors="replace")  # names of files need not be UTF-8
        return whole.replace(output)
