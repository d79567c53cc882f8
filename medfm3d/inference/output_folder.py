"""The folder of masks, before anything is computed for it."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from medfm3d.inference.batch_stopped import BatchStopped
from medfm3d.volumes import VolumeError, output_name
from medfm3d.volumes.paths import dicom_labels_suffix, volume_suffix
from medfm3d.volumes.whole_file import LEFTOVERS


def prepare_output(output: str | Path, scans: Sequence[Path]) -> None:
    """Make a folder of masks, and see that it can be written to.

    What a killed process left of the masks of these scans is removed.

    Args:
        output: folder of masks.
        scans: those that are to be segmented.

    Raises:
        VolumeError: if a scan lies there under the name of its mask, which would replace it.
        BatchStopped: if nothing can be written there.
    """
    output = Path(output)
    for scan in scans:
        # Unlike Path.resolve, realpath takes a link that goes round in a circle, which reading will name.
        if os.path.realpath(output / f"{output_name(scan)}.nii.gz") == os.path.realpath(scan):
            raise VolumeError(f"{scan}: its mask would overwrite it; name another output folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as trial:  # without a name that another shard's could meet
            trial.write(b"\0")
    except OSError as error:
        raise BatchStopped(
            f"{output}: cannot be written to ({error.strerror or error}); name another output folder, or make this one "
            "writable and make room there"
        ) from error
    names = {output_name(scan) for scan in scans}
    for folder in output.glob(LEFTOVERS):
        # Of other scans' masks another process, a shard say, may be about to write just now.
        try:
            begun = [part.name for part in folder.iterdir() if volume_suffix(part) or dicom_labels_suffix(part)]
        except FileNotFoundError:  # which it has just finished
            continue
        if any(output_name(name) in names for name in begun):
            shutil.rmtree(folder, ignore_errors=True)
