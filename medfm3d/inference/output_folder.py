"""The folder of masks, before anything is computed for it."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medfm3d.inference.batch_journal import BatchJournal, content_digest
from medfm3d.inference.batch_stopped import BatchStopped
from medfm3d.inference.component_cleanup import changes_file
from medfm3d.inference.log_priors import log_priors_file
from medfm3d.inference.transductive_inferer import refinement_file
from medfm3d.inference.uncertainty import quality_file
from medfm3d.volumes import VolumeError, output_name
from medfm3d.volumes.paths import dicom_labels_suffix, mask_path, volume_suffix
from medfm3d.volumes.whole_file import LEFTOVERS


def mask_files(output: str | Path, scans: Iterable[Path], values: Mapping[str, Any]) -> dict[Path, Path]:
    """Return the mask of each scan in a folder of masks, as an inference workflow with these config values names it."""
    ends = values.get("output_ext", ".nii.gz"), values.get("output_postfix", "")
    return {scan: mask_path(output, scan, *ends) for scan in scans}


def check_replaced(journal: BatchJournal, masks: Mapping[Path, Path]) -> None:
    """See that no file is lost by which a mask is replaced: only what was made of the same scan may be.

    Args:
        journal: of the folder of masks.
        masks: the mask that is to be made of each scan.

    Raises:
        VolumeError: if a file of such a name is not one that the journal knows, or has changed since it was made, by
            hand say, or is another scan's mask.
    """
    makers, begun = journal.makers(), journal.begun()
    for scan, mask in masks.items():
        if not mask.is_file() or not mask.stat().st_size:
            continue  # nothing is lost
        maker = makers.get(mask.name)
        if maker is None:
            what = "" if mask.name in begun else "is no mask that segment has made"
        elif os.path.realpath(maker.scan) != os.path.realpath(scan) and Path(maker.scan).exists():
            what = f"is the mask of {maker.scan}"
        elif maker.mask_digest in (None, content_digest(mask)) or begun.get(mask.name, 0.0) > maker.finished:
            what = ""
        else:
            what = "has changed since segment made it"
        if what:
            raise VolumeError(
                f"{mask}: {what}, and the mask of {scan} would replace it; name another output folder, or allow that "
                "(--again)"
            )


def forget_remarks(output: str | Path, scans: Iterable[Path]) -> None:
    """Remove what was said of earlier masks of these scans; it does not hold of those that are made now."""
    for scan in scans:
        for file in (changes_file, quality_file, refinement_file, log_priors_file):
            if os.path.lexists(file(output, scan)):  # which takes names that are too long, too
                file(output, scan).unlink()


def prepare_output(output: str | Path, masks: Mapping[Path, Path]) -> None:
    """Make a folder of masks, and see that it can be written to.

    What a killed process left of the masks of these scans is removed.

    Args:
        output: folder of masks.
        masks: the mask of each scan that is to be segmented.

    Raises:
        VolumeError: if a scan lies there under the name of its mask, which would replace it.
        BatchStopped: if nothing can be written there.
    """
    output = Path(output)
    for scan, mask in masks.items():
        # Unlike Path.resolve, realpath takes a link that goes round in a circle, which reading will name.
        if os.path.realpath(mask) == os.path.realpath(scan):
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
    names = {output_name(scan) for scan in masks}
    for folder in output.glob(LEFTOVERS):
        # Of other scans' masks another process, a shard say, may be about to write just now.
        try:
            begun = [part.name for part in folder.iterdir() if volume_suffix(part) or dicom_labels_suffix(part)]
        except FileNotFoundError:  # which it has just finished
            continue
        if any(output_name(name) in names for name in begun):
            shutil.rmtree(folder, ignore_errors=True)
