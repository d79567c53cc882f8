"""Where the body lies in a scan, and what it looks like from afar."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import numpy as np
import torch
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.filters import threshold_otsu

from medfm3d.priors.packed_array import pack_array, unpack_array
from medfm3d.volumes import Volume, detect_modality, mask_box, reorient, resample_to

BODY_HU = -300.0
GREY_HU = (-300.0, 400.0)  # what the thumbnail tells apart: air, soft tissue, bone
MASK_MM = 4.0  # voxel size at which the outline is found
THUMBNAIL_MM = 12.0
# Share of the four lateral faces of a scan that the body covers, from which on no outline is in sight: of the 30
# development scans of head-and-neck CT, shoulders cut off, none is above 0.12; MR crops of the hippocampus are above
# 0.33.
FILLS_SCAN = 0.25
LEAST_BODY = 0.05  # share of a scan's voxels: what is smaller is a bright organ in a crop, not a body in air


@dataclass(frozen=True, eq=False)
class BodyFrame:
    """A frame of reference in a scan, aligned with right, anterior and superior.

    Attributes:
        kind: "body" where the body's outline is in sight; "scan" where the body fills the scan, as in a crop around one
            organ, and nothing but the scan's own box is left to go by.
        low_mm, high_mm: corners of the body's box, or the scan's, RAS millimetres.
        midplane_mm: place of the plane between left and right, along R.
        thumbnail: for "body", the body at `THUMBNAIL_MM`, axes along R, A and S: uint8, 0 outside, from 1 (darkest) to
            255 within.
    """

    kind: Literal["body", "scan"]
    low_mm: np.ndarray
    high_mm: np.ndarray
    midplane_mm: float
    thumbnail: Volume | None = None

    @property
    def size_mm(self) -> np.ndarray:
        """Sides of the box, (3,)."""
        return self.high_mm - self.low_mm

    def to_normalised(self, points_mm: np.ndarray) -> np.ndarray:
        """Return points (..., 3) with the box from 0 to 1 along R, A and S; the mid-plane is not always at 0.5."""
        return (np.asarray(points_mm, dtype=float) - self.low_mm) / self.size_mm

    def to_mm(self, normalised: np.ndarray) -> np.ndarray:
        """Return RAS millimetres of normalised points (..., 3)."""
        return np.asarray(normalised, dtype=float) * self.size_mm + self.low_mm

    def to_json(self) -> dict[str, Any]:
        """Return the frame as plain JSON values."""
        thumbnail = self.thumbnail and {
            "origin_mm": self.thumbnail.affine[:3, 3].tolist(),
            **pack_array(self.thumbnail.array),
        }
        return {
            "kind": self.kind,
            "low_mm": self.low_mm.tolist(),
            "high_mm": self.high_mm.tolist(),
            "midplane_mm": self.midplane_mm,
            "thumbnail": thumbnail,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "BodyFrame":
        """Return a frame from what `to_json` gave."""
        thumbnail = stored["thumbnail"]
        if thumbnail is not None:
            thumbnail = Volume(unpack_array(thumbnail), _axis_aligned(thumbnail["origin_mm"], THUMBNAIL_MM))
        if stored["kind"] not in ("body", "scan") or (stored["kind"] == "body") != (thumbnail is not None):
            raise ValueError(f"a body frame of kind {stored['kind']!r} is none of ours")
        corners = (np.array(stored[name], dtype=float) for name in ("low_mm", "high_mm"))
        return cls(stored["kind"], *corners, float(stored["midplane_mm"]), thumbnail)


def find_body(image: Volume, modality: str = "auto") -> BodyFrame:
    """Find the body in a scan with intensities as stored: Hounsfield units for CT.

    The body is the largest component above -300 HU (MR: above Otsu's threshold), its holes filled slice by slice. Where
    that fills the scan, or is next to nothing of it, no outline of a body is in sight, and the frame is the scan's box.

    Args:
        image: the scan, in any orientation.
        modality: "CT", "MR", or "auto": see `medfm3d.volumes.detect_modality`.
    """
    modality = detect_modality(image.array) if modality == "auto" else modality
    if modality not in ("CT", "MR"):
        raise ValueError(f"unknown modality {modality!r}: choose auto, CT or MR")
    image = reorient(image)
    box = _box_mm(image.affine, np.zeros(3), np.array(image.shape))
    small = _shrunk(image)
    mask, grey = _outlined(small.array, modality)
    if mask.mean() < LEAST_BODY or _lateral_share(mask) > FILLS_SCAN:
        return BodyFrame("scan", *box, float((box[0][0] + box[1][0]) / 2))
    inside = mask_box(mask)
    low, high = np.array([side.start for side in inside]), np.array([side.stop for side in inside])
    body = _box_mm(small.affine, low, high)
    return BodyFrame("body", *body, _midplane_mm(mask, small.affine), _thumbnail(mask, grey, small.affine, body))


def _shrunk(image: Volume) -> Volume:
    """Blocks of voxels averaged to about `MASK_MM`; small volumes take milliseconds where full scans take seconds."""
    factors = np.maximum(1, np.floor(MASK_MM / np.array(image.spacing_mm))).astype(int)
    factors = np.minimum(factors, image.shape)
    array = torch.from_numpy(np.ascontiguousarray(image.array, dtype=np.float32))[None, None]
    averaged = torch.nn.functional.avg_pool3d(array, tuple(factors.tolist()))[0, 0].numpy()
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((factors - 1) / 2)
    affine[:3, :3] *= factors
    return Volume(averaged, affine)


def _outlined(array: np.ndarray, modality: str) -> tuple[np.ndarray, np.ndarray]:
    """The body's mask, and intensities from 0 to 1."""
    if modality == "CT":
        threshold, (dark, bright) = BODY_HU, GREY_HU
    else:
        dark, bright = np.percentile(array, (0.5, 99.5))
        clipped = array.clip(dark, bright)
        threshold = threshold_otsu(clipped) if bright > dark else bright
    pieces, count = cc3d.connected_components(np.ascontiguousarray(array > threshold), connectivity=6, return_N=True)
    if not count:
        return np.zeros(array.shape, dtype=bool), array
    mask = pieces == 1 + np.argmax(cc3d.statistics(pieces)["voxel_counts"][1:])
    for k in range(mask.shape[2]):
        mask[:, :, k] = binary_fill_holes(mask[:, :, k])
    return mask, ((array - dark) / max(bright - dark, 1e-6)).clip(0, 1)


def _lateral_share(mask: np.ndarray) -> float:
    """Share of the lateral faces' voxels that lie in the mask, or outside the slices where there is any of it."""
    levels = np.flatnonzero(mask.any(axis=(0, 1)))
    faces = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    faces = [face[:, levels[0] : levels[-1] + 1] for face in faces]
    return sum(int(face.sum()) for face in faces) / sum(face.size for face in faces)


def _midplane_mm(mask: np.ndarray, affine: np.ndarray) -> float:
    """Median over slices of the middle between the outline's ends: arms and shoulders cut on one side do not move it.

    On the development scans of head-and-neck CT it predicts organs' places along R to 3 mm, the box's middle to 6 mm.
    """
    wide = mask.any(axis=1)
    levels = np.flatnonzero(wide.any(axis=0))
    first = wide[:, levels].argmax(axis=0)
    last = wide.shape[0] - 1 - wide[::-1, levels].argmax(axis=0)
    rows = np.array([np.median((first + last) / 2), (mask.shape[1] - 1) / 2, levels.mean()])
    return float((affine[:3, :3] @ rows + affine[:3, 3])[0])


def _thumbnail(mask: np.ndarray, grey: np.ndarray, affine: np.ndarray, body: tuple[np.ndarray, np.ndarray]) -> Volume:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    blur = 0.4 * THUMBNAIL_MM / spacing
    within = gaussian_filter(mask.astype(np.float32), blur, truncate=2)
    shade = gaussian_filter(np.where(mask, grey, 0).astype(np.float32), blur, truncate=2) / np.maximum(within, 1e-3)
    low, high = body
    sides = np.ceil((high - low) / THUMBNAIL_MM - 1e-3).astype(int).clip(min=1)
    origin = (low + high) / 2 - (sides - 1) / 2 * THUMBNAIL_MM
    grid = Volume(np.zeros(tuple(sides), dtype=np.uint8), _axis_aligned(origin, THUMBNAIL_MM))
    covered, shade = (resample_to(Volume(array, affine), grid).array for array in (within, shade))
    return Volume(np.where(covered > 0.5, 1 + np.rint(shade.clip(0, 1) * 254), 0).astype(np.uint8), grid.affine)


def _box_mm(affine: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners in RAS millimetres of the box that holds voxels from low to high - 1, faces included."""
    ends = np.stack([low, high]) - 0.5
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]
    return corners.min(axis=0), corners.max(axis=0)


def _axis_aligned(origin_mm: Any, spacing_mm: float) -> np.ndarray:
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = origin_mm
    return affine
