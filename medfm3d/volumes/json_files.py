"""JSON files, all of them or nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medfm3d.volumes.whole_file import whole_file


def write_json(content: Any, path: str | Path, *, default: Callable[[Any], Any] | None = None) -> Path:
    """Write a value as indented JSON; folders are made where needed, and an existing file is replaced at once.

    Args:
        content: any JSON value.
        path: the file.
        default: turns what JSON does not know into what it does, as in `json.dumps`.
    """
    with whole_file(path) as whole:
        whole.write_text(json.dumps(content, indent=2, default=default) + "\n", encoding="utf-8")
    return Path(path)
