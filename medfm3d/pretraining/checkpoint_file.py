"""Checkpoints that are whole or not there."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: a process killed at any moment leaves the last one whole.

    Lightning's own writer goes through the system's temporary folder. Where that is another file system, the move at
    the end is a copy, which a kill leaves half done under the final name; and a large checkpoint may not fit there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; one of that name is replaced at once.

        Raises:
            TypeError: if `storage_options` is given: files of this machine have none.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are files of this machine and take no storage_options")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")  # one name, so that leftovers of a killed run are replaced
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
