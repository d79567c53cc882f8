"""Whether a file can hold what its header declares, before memory is taken for it."""

import math
from collections.abc import Sequence
from pathlib import Path

from medfm3d.volumes.errors import VolumeError

DEFLATE_RATIO = 1032  # no deflate stream, and so no gzip file, unpacks to more (zlib's technical details)
SLACK_BYTES = 65_536  # of headers


def check_stored_size(path: Path, shape: Sequence[int], voxel_bytes: int, holds_bytes: int, packed: bool) -> None:
    """Check that a file is long enough for the voxels that its header declares.

    Args:
        path: the file, for the message.
        shape: voxels along each axis, as declared.
        voxel_bytes: bytes of each voxel.
        holds_bytes: length of the file, or of the file of voxels that belongs to it.
        packed: whether the voxels are compressed.

    Raises:
        VolumeError: if it is not, or a side is negative.
    """
    needed = math.prod(int(side) for side in shape) * voxel_bytes
    most = holds_bytes * DEFLATE_RATIO + SLACK_BYTES if packed else holds_bytes
    if min(shape) < 0 or needed > most:
        declared = " x ".join(str(side) for side in shape)
        raise VolumeError(
            f"{path}: its header declares {declared} voxels of {voxel_bytes} bytes, more than can lie in "
            f"{holds_bytes} bytes; it ends too early or its header is wrong, copy or export it again"
        )
