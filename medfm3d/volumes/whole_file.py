"""Files that appear whole or not at all."""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".writing-"
LEFTOVERS = f"{_PREFIX}*"  # folders of writers that were killed
WRITER = uuid.uuid4().hex[:8]  # of this process, in the names of its folders


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a place to write a file to, in a hidden folder beside its own; at the end it takes the place of the path.

    Other files that were written there move along, before it. If writing fails nothing of it stays. Folders are made
    where needed. Several processes may write the same file: the last one's stays.

    Args:
        path: the file.

    Raises:
        OSError: if the folder cannot be written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{WRITER}-", dir=path.parent) as temporary:
        whole = Path(temporary) / path.name
        yield whole
        # MHD and NHDR keep the voxels in a second file; it must be there before the header that names it.
        for part in sorted(whole.parent.iterdir(), key=lambda part: part == whole):
            _to_disk(part)  # or a power cut could leave the name without the content
            part.replace(path.parent / part.name)
        _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, where the file system can say so."""
    windows = os.name == "nt"  # which syncs no folders, and only files that may be written to
    if windows and path.is_dir():
        return
    opened = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(opened)


def remove_leftovers(folder: str | Path, writer: str) -> None:
    """Remove what a process that is gone had begun to write to a folder.

    Args:
        folder: the folder of the files.
        writer: its `WRITER`.
    """
    for left in Path(folder).glob(f"{_PREFIX}{writer}-*"):
        shutil.rmtree(left, ignore_errors=True)
