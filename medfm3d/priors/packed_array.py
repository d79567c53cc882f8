"""Small arrays inside JSON."""

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_VOXELS = 4_000_000  # what a prior stores is far smaller; a file that claims more is refused before it is unpacked


def pack_array(array: np.ndarray) -> dict[str, Any]:
    """Return an array of bytes, uint8 of any shape, as JSON values: its shape, and its values deflated, as base64."""
    array = np.ascontiguousarray(array, dtype=np.uint8)
    return {"shape": list(array.shape), "deflated": base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")}


def unpack_array(packed: Mapping[str, Any]) -> np.ndarray:
    """Return the array that `pack_array` packed; raises ValueError if it is none."""
    shape = tuple(int(side) for side in packed["shape"])
    voxels = math.prod(shape)
    if min(shape, default=0) < 0 or voxels > MAX_VOXELS:
        raise ValueError(f"an array of shape {shape} is none of ours")
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(packed["deflated"], validate=True), voxels + 1)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"a packed array is damaged ({error})") from error
    if len(content) != voxels:
        raise ValueError(f"an array of shape {shape} holds {len(content)} values instead of {voxels}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
