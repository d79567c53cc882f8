"""A folder that scans keep arriving in."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

from medfm3d.inference.batch_journal import scan_stamp
from medfm3d.inference.inputs import list_inputs, of_taken_names
from medfm3d.volumes import VolumeError, VolumeWarning


def watch_folder(
    path: str | Path,
    every_s: float,
    segment: Callable[[list[Path]], object],
    stop: Callable[[], bool] = lambda: False,
    output: str | Path | None = None,
) -> None:
    """Look for scans again and again, and segment all that are there whenever one is new or has changed.

    A scan is taken up when it has been the same at two looks, so that none is read while it is still being copied. One
    whose mask would have the name of another's that was there first is left alone, with a `VolumeWarning`.

    Args:
        path: as of `list_inputs`; it may hold no scan yet.
        every_s: seconds between two looks.
        segment: gets all scans that have settled, those of earlier calls among them.
        stop: asked after each look; by default it goes on until interrupted.
        output: folder of masks, as of `list_inputs`.

    Raises:
        VolumeError: if the path does not exist.
    """
    if not Path(path).exists():
        raise VolumeError(f"{path}: no such folder; name the one that scans arrive in")
    before: dict[Path, str] = {}
    segmented: dict[Path, str] = {}
    refused: set[Path] = set()
    while True:
        now = {scan: scan_stamp(scan) for scan in _scans(path, output)}
        settled = {scan: stamp for scan, stamp in now.items() if before.get(scan) == stamp}
        for scan, other in of_taken_names(sorted(settled, key=lambda scan: scan not in segmented)):
            del settled[scan]
            if scan not in refused:
                refused.add(scan)
                told = f"{scan}: left alone, its mask would be that of {other} as well; give it another name"
                warnings.warn(told, VolumeWarning, stacklevel=2)
        if any(segmented.get(scan) != stamp for scan, stamp in settled.items()):
            segment(list(settled))
            segmented = settled
        before = now
        if stop():
            return
        time.sleep(every_s)


def _scans(path: str | Path, output: str | Path | None) -> list[Path]:
    try:
        return list_inputs(path, output)
    except VolumeError:
        return []  # none yet
