"""What a user points at in a scan."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from medfm3d.volumes import Volume, reorient

Space = Literal["voxel", "world"]
_POINTS = ("foreground", "background", "foreground_scribble", "background_scribble")


class PromptError(ValueError):
    """A prompt that cannot be used: the message says which, what is wrong and what would mend it."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """Points, boxes, scribbles, a mask and a name, in any combination, of one organ.

    Attributes:
        foreground: points in the organ, (N, 3).
        background: points outside of it that were taken for it, (N, 3).
        boxes: (N, 2, 3), two opposite corners that lie in the box; on one slice both have the slice's coordinate.
        foreground_scribble: points along strokes in the organ, (N, 3).
        background_scribble: the same outside of it.
        mask: the organ as it was outlined so far, (I, J, K) on the scan's grid; None for none.
        organ: its name; one that the network does not know changes nothing.
        space: "voxel": indices of the scan as stored, as in nibabel; "world": RAS+ millimetres.

    Raises:
        PromptError: if an array has another shape or holds what is no number.
    """

    foreground: Any = ()
    background: Any = ()
    boxes: Any = ()
    foreground_scribble: Any = ()
    background_scribble: Any = ()
    mask: np.ndarray | None = field(default=None, repr=False)
    organ: str | None = None
    space: Space = "voxel"

    def __post_init__(self) -> None:
        if self.space not in ("voxel", "world"):
            raise PromptError(f"unknown space {self.space!r}: give voxel or world coordinates")
        for name in _POINTS:
            object.__setattr__(self, name, _numbers(name, getattr(self, name), (3,)))
        object.__setattr__(self, "boxes", _numbers("boxes", self.boxes, (2, 3)))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is pointed at and nothing named."""
        return not self.has_place and self.organ is None

    @property
    def has_place(self) -> bool:
        """Whether something in it says where the organ is."""
        places = any(len(getattr(self, name)) for name in (*_POINTS, "boxes"))
        return places or (self.mask is not None and bool(self.mask.any()))

    def first(self) -> "Prompt | None":
        """Return what of it was pointed at first: boxes, else the first point, else strokes; None if that is all."""
        if len(self.boxes):
            begun, rest = Prompt(boxes=self.boxes, organ=self.organ, space=self.space), _POINTS
        elif len(self.foreground):
            begun, rest = Prompt(foreground=self.foreground[:1], organ=self.organ, space=self.space), _POINTS[1:]
            if len(self.foreground) > 1:
                return begun
        elif len(self.foreground_scribble):
            strokes = self.foreground_scribble
            begun = Prompt(foreground_scribble=strokes, organ=self.organ, space=self.space)
            rest = ("background", "background_scribble")
        else:
            return None
        return begun if any(len(getattr(self, name)) for name in rest) else None

    def extended(self, other: "Prompt") -> "Prompt":
        """Return the prompts of both; mask and name are those of `other` where it has any."""
        if self.space != other.space:
            raise PromptError(f"prompts in {self.space} and in {other.space} coordinates do not mix: bring them to one")
        joined = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in (*_POINTS, "boxes")}
        mask = self.mask if other.mask is None else other.mask
        return replace(self, **joined, mask=mask, organ=other.organ or self.organ)

    def on(self, scan: Volume, grid: Volume) -> "Prompt":
        """Return the prompts in voxels of another grid over the same scan, after checks.

        Args:
            scan: the scan, to which voxel coordinates refer and whose grid the mask has.
            grid: the same scan, reoriented.

        Raises:
            PromptError: if a point or box lies outside of the scan, or the mask has another shape.
        """
        to_scan = np.linalg.inv(scan.affine) if self.space == "world" else np.eye(4)
        to_grid = np.linalg.inv(grid.affine) @ scan.affine
        moved = {}
        for name in (*_POINTS, "boxes"):
            places = _moved(getattr(self, name), to_scan)
            _check_inside(name, getattr(self, name), places, scan, self.space)
            moved[name] = _moved(places, to_grid)
        boxes = moved["boxes"]
        moved["boxes"] = np.stack([boxes.min(axis=1), boxes.max(axis=1)], axis=1)
        mask = self.mask
        if mask is not None:
            if mask.shape != scan.shape:
                raise PromptError(f"the mask has shape {mask.shape}, the scan {scan.shape}: resample it onto the scan")
            mask = reorient(Volume(np.asarray(mask) > 0, scan.affine), grid.orientation).array
        return Prompt(**moved, mask=mask, organ=self.organ)


def flat_box(low: Sequence[float], high: Sequence[float], axis: int, slice_number: float) -> np.ndarray:
    """Return a box on one slice, (2, 3), from two corners within the slice.

    Args:
        low: coordinates along the two other axes, in order.
        high: the same of the opposite corner.
        axis: along which slices are counted, 0 to 2.
        slice_number: the slice.
    """
    return np.stack([np.insert(np.asarray(corner, dtype=float), axis, slice_number) for corner in (low, high)])


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name}: {value!r} is not a list of coordinates ({error})") from error
    if array.size == 0:
        return np.zeros((0, *shape))
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape or not np.isfinite(array).all():
        wanted = "(i, j, k)" if shape == (3,) else "two corners (i, j, k)"
        raise PromptError(f"{name}: expected {wanted} for each, got {array.tolist()!r:.80}")
    return array


def _moved(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return points @ affine[:3, :3].T + affine[:3, 3] if points.size else points


def _check_inside(name: str, given: np.ndarray, voxels: np.ndarray, scan: Volume, space: str) -> None:
    beyond = (voxels < -0.5) | (voxels > np.array(scan.shape) - 0.5)
    outside = beyond.any(axis=tuple(range(1, beyond.ndim)))
    if not outside.any():
        return
    number = int(outside.argmax())
    sides = " x ".join(str(side) for side in scan.shape)
    where = f"which is voxel {np.round(voxels[number], 1).tolist()} " if space == "world" else ""
    file = f" ({scan.source})" if scan.source else ""
    raise PromptError(
        f"{name}: {given[number].tolist()} {where}lies outside of the scan of {sides} voxels"
        f"{file}: give voxel indices from 0, or RAS millimetres with space='world'"
    )
