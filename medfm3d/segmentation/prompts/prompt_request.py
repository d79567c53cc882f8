"""Prompts as programs send them: the requests of MONAI Label's interactive models, and plain JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medfm3d.segmentation.prompts.prompt import Prompt, PromptError, flat_box
from medfm3d.volumes import Volume, check_same_grid, read_label

_KEPT = (
    "foreground",
    "background",
    "foreground_scribble",
    "background_scribble",
    "boxes",
    "roi",
    "slice",
    "slice_axis",
    "mask",
    "organ",
    "label",
    "space",
)


def request_text(request: Mapping[str, Any]) -> str:
    """Return what a request says of prompts, as JSON text that survives a data loader.

    Args:
        request: see `read_request`; everything else in it is left out.
    """
    return json.dumps({name: request[name] for name in _KEPT if request.get(name) is not None}, default=_plain)


def read_request(request: Mapping[str, Any], scan: Volume) -> Prompt:
    """Return the prompts of a request.

    Args:
        request: any of
            foreground, background: lists of points, as Slicer's Smart Edit sends them to a deepgrow model;
            foreground_scribble, background_scribble: the same, along strokes;
            roi: a box, [i0, j0, i1, j1, k0, k1], the two last left out with `slice`, as MONAI Label's own SAM 2 model
            takes it (its scribbles have another order);
            slice: number of the slice on which a `roi` of four numbers lies, along `slice_axis` (2);
            boxes: list of [first corner, last corner];
            mask: file of a mask on the scan's grid;
            organ, or else label: the organ's name;
            space: "voxel" (indices of the scan, the default) or "world" (RAS millimetres).
        scan: the scan.

    Raises:
        PromptError: if one of these makes no sense.
        VolumeError: if the mask's file is unusable or lies on another grid.
    """
    boxes = [*_list("boxes", request.get("boxes")), *_roi(request)]
    mask = None
    if request.get("mask"):
        outlined = read_label(Path(request["mask"]))
        check_same_grid(scan, outlined)
        mask = outlined.array > 0
    organ = request.get("organ") or request.get("label")
    if organ is not None and not isinstance(organ, str):
        raise PromptError(f"organ: {organ!r} is not a name")
    names = ("foreground", "background", "foreground_scribble", "background_scribble")
    points = {name: _list(name, request.get(name)) for name in names}
    return Prompt(**points, boxes=boxes, mask=mask, organ=organ, space=request.get("space", "voxel"))


def _roi(request: Mapping[str, Any]) -> list[np.ndarray]:
    roi = _list("roi", request.get("roi"))
    if not roi:
        return []
    numbers = np.asarray(roi, dtype=float)
    if numbers.shape == (6,):
        i0, j0, i1, j1, k0, k1 = numbers
        return [np.array([[i0, j0, k0], [i1, j1, k1]])]
    if numbers.shape == (4,) and request.get("slice") is not None:
        return [flat_box(numbers[:2], numbers[2:], int(request.get("slice_axis", 2)), float(request["slice"]))]
    raise PromptError(f"roi: expected [i0, j0, i1, j1, k0, k1], or four numbers and a slice, got {roi!r}")


def _list(name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise PromptError(f"{name}: {value!r} is not a list of numbers") from error
    if not isinstance(value, Sequence | np.ndarray):
        raise PromptError(f"{name}: {value!r} is not a list of numbers")
    return list(value)


def _plain(value: Any) -> Any:
    """Return arrays and paths as JSON has them."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
