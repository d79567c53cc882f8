"""Cases small enough to lie within a page that is opened from disk."""

import base64
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medfm3d.evaluation.overlays import CONTEXT_MM
from medfm3d.evaluation.viewer.cases import OpenedCase, ViewerCase, open_case
from medfm3d.evaluation.viewer.nifti_stream import NiftiStream
from medfm3d.evaluation.viewer.reduced_copy import cropped, reduced_copy
from medfm3d.volumes import Volume, mask_box

LARGEST_VOXELS = 96**3  # of an embedded scan: about 1 MB in the page
LEVELS = 4095  # grey values of an embedded scan that is not of whole numbers


@dataclass(frozen=True)
class EmbeddedCases:
    """What a page holds: the cases for its viewer, and the names of those that were too many."""

    cases: list[dict[str, Any]]
    left_out: list[str]


def embed_cases(cases: Iterable[ViewerCase], organs: Mapping[str, int], most_mb: float) -> EmbeddedCases:
    """Return descriptions of cases with scan and mask in them, the first ones until `most_mb` megabytes are full.

    A scan is cut to the organs and 25 mm around them and, if it is still large, brought to a coarser grid; `shown` says
    what was done. Volumes are those of the whole mask.

    Raises:
        VolumeError: as `open_case`.
    """
    kept: list[dict[str, Any]] = []
    left_out: list[str] = []
    room = most_mb * 1e6
    for case in cases:
        if left_out:
            left_out.append(case.name)
            continue
        embedded = embed_case(open_case(case, organs))
        size = len(embedded["scan_nifti"]) + len(embedded["mask_nifti"] or "")
        if size > room:
            left_out.append(case.name)
            continue
        room -= size
        kept.append(embedded)
    return EmbeddedCases(kept, left_out)


def embed_case(opened: OpenedCase) -> dict[str, Any]:
    """Return a case's description with `scan_nifti` and `mask_nifti` (gzip, base64) and `shown`, what they are."""
    scan, mask = opened.scan, opened.mask
    if mask is not None and mask.array.any():
        margin = np.ceil(CONTEXT_MM / np.array(scan.spacing_mm)).astype(int)
        box = tuple(
            slice(max(0, side.start - more), min(size, side.stop + more))
            for side, more, size in zip(mask_box(mask.array > 0), margin, scan.shape, strict=True)
        )
        scan, mask = cropped(scan, box), cropped(mask, box)
    small, small_mask = reduced_copy(scan, mask, LARGEST_VOXELS)
    said = []
    if scan.shape != opened.scan.shape:
        said.append(f"cut to {CONTEXT_MM:g} mm around the organs")
    if small.shape != scan.shape:
        said.append("reduced to " + " x ".join(f"{size:.3g}" for size in small.spacing_mm) + " mm")
    stored, slope, intercept = _as_int16(small)
    return {
        **opened.description,
        "shown": ", ".join(said) or None,
        "scan_nifti": _packed(NiftiStream(stored, slope, intercept)),
        "mask_nifti": None if small_mask is None else _packed(NiftiStream(small_mask)),
    }


def _as_int16(volume: Volume) -> tuple[Volume, float, float]:
    """Whole numbers that fit stay what they are (interpolated ones are rounded); others get evenly spaced levels."""
    low, high = float(volume.array.min()), float(volume.array.max())
    limits = np.iinfo(np.int16)
    whole = np.issubdtype(volume.array.dtype, np.integer) or high - low > LEVELS / 8
    if whole and limits.min <= low and high <= limits.max:
        return Volume(np.rint(volume.array).astype(np.int16), volume.affine), 1.0, 0.0
    slope = (high - low) / LEVELS or 1.0
    levels = np.rint((volume.array.astype(np.float64) - low) / slope).astype(np.int16)
    return Volume(levels, volume.affine), slope, low


def _packed(stream: NiftiStream) -> str:
    return base64.b64encode(gzip.compress(b"".join(stream), compresslevel=6, mtime=0)).decode("ascii")
