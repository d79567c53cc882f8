"""What can be looked at: pairs of scan and mask, and one of them opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medfm3d.evaluation.overlays import CT_WINDOW_HU
from medfm3d.evaluation.pairing import case_name, list_cases, list_predictions
from medfm3d.evaluation.viewer.organ_table import organ_table
from medfm3d.volumes import Volume, VolumeError, check_same_grid, detect_modality, read_label, read_volume

CT_WINDOWS_HU = {"soft tissue": CT_WINDOW_HU, "brain": (0.0, 80.0), "lung": (-1350.0, 150.0), "bone": (-450.0, 1050.0)}
OBLIQUE_DEGREES = 3.0  # beyond that a reader of the planes should know


@dataclass(frozen=True)
class ViewerCase:
    """A scan and the mask to lay over it, or None if the scan has none."""

    name: str
    scan: Path
    mask: Path | None


@dataclass(frozen=True)
class OpenedCase:
    """A case in memory.

    Attributes:
        scan: the scan at full resolution.
        mask: on the same grid, or None.
        description: what the page says of it, fit for JSON: name, files, shape, spacing_mm, orientation, affine,
            modality, unit, windows (name and limits of grey values), oblique_degrees, organs (see `organ_table`).
    """

    scan: Volume
    mask: Volume | None
    description: dict[str, Any]


def pair_scans(images: str | Path, masks: str | Path | None) -> list[ViewerCase]:
    """Return the scans of a folder with their masks, by name; scans without a mask too.

    Raises:
        VolumeError: if a folder does not exist or holds no volume, or a mask has no scan.
    """
    scans = list_cases(images)
    found = {} if masks is None else list_predictions(masks)
    if alone := [path.name for name, path in found.items() if name not in scans]:
        names = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
        raise VolumeError(f"{masks}: {names} without a scan of the same name in {images}; add the scans")
    return [ViewerCase(name, scan, found.get(name)) for name, scan in scans.items()]


def single_case(scan: Path, mask: Path | None) -> ViewerCase:
    """Return the case of one scan and one mask, whatever their names.

    Raises:
        VolumeError: if one of them does not exist.
    """
    for path in (scan, mask):
        if path is not None and not path.exists():
            raise VolumeError(f"{path}: no such file; check the path")
    return ViewerCase(case_name(scan), scan, mask)


def open_case(case: ViewerCase, organs: Mapping[str, int]) -> OpenedCase:
    """Read a case and measure its organs, at full resolution.

    Raises:
        VolumeError: if scan or mask is unusable, or they lie on different grids.
    """
    scan = read_volume(case.scan)
    mask = None if case.mask is None else read_label(case.mask)
    if mask is not None:
        check_same_grid(scan, mask)
    modality = detect_modality(scan.array)
    description = {
        "name": case.name,
        "scan": str(case.scan),
        "mask": case.mask and str(case.mask),
        "shape": list(scan.shape),
        "spacing_mm": list(scan.spacing_mm),
        "orientation": scan.orientation,
        "affine": scan.affine.tolist(),
        "modality": modality,
        "unit": "HU" if modality == "CT" else "",
        "windows": CT_WINDOWS_HU if modality == "CT" else {"1 to 99 %": _percentiles(scan.array)},
        "oblique_degrees": _oblique_degrees(scan),
        "organs": [] if mask is None else organ_table(mask, organs),
    }
    return OpenedCase(scan, mask, description)


def _percentiles(array: np.ndarray) -> list[float]:
    sample = array[tuple(slice(None, None, max(1, side // 128)) for side in array.shape)]
    low, high = np.percentile(sample, (1, 99))
    return [float(low), float(high if high > low else low + 1)]


def _oblique_degrees(volume: Volume) -> float | None:
    """Largest angle between an axis of the scan and the body's nearest, where it matters."""
    cosines = np.abs(volume.affine[:3, :3] / volume.spacing_mm).max(axis=0)
    degrees = float(np.degrees(np.arccos(np.clip(cosines.min(), -1, 1))))
    return round(degrees, 1) if degrees > OBLIQUE_DEGREES else None
