"""A volume as the bytes of a NIfTI file, without a file."""

from collections.abc import Iterator

import nibabel as nib
import numpy as np

from medfm3d.volumes import Volume

_OFFSET = 352  # of the voxels: header of 348 bytes, then four that say that no extension follows (NIfTI 1.1)
_AS_IS = {np.dtype(kind) for kind in (np.uint8, np.int16, np.uint16, np.int32, np.float32)}


class NiftiStream:
    """NIfTI 1 bytes of a volume, slice by slice, so that a large scan is not held twice.

    Voxels keep their numbers; types that browsers lack are widened: bool and int8 to int16, all else to float32.

    Args:
        volume: the volume, (I, J, K).
        slope: what stored numbers are multiplied by, the file's scl_slope.
        intercept: and what is added then.
    """

    def __init__(self, volume: Volume, slope: float = 1.0, intercept: float = 0.0) -> None:
        kind = volume.array.dtype
        if kind not in _AS_IS:
            kind = np.dtype(np.int16 if kind.itemsize == 1 else np.float32)
        self._array, self._kind = volume.array, kind.newbyteorder("<")
        header = nib.Nifti1Header(endianness="<")
        header.set_data_dtype(kind)
        header.set_data_shape(volume.shape)
        header.set_zooms(volume.spacing_mm)
        header.set_sform(volume.affine, code="scanner")
        header.set_qform(volume.affine, code="scanner")
        header.set_xyzt_units("mm")
        header.set_slope_inter(slope, intercept)
        header["magic"], header["vox_offset"] = b"n+1", _OFFSET
        self._header = header.binaryblock + bytes(_OFFSET - 348)

    def __len__(self) -> int:
        return _OFFSET + self._array.size * self._kind.itemsize

    def __iter__(self) -> Iterator[bytes]:
        yield self._header
        for k in range(self._array.shape[2]):
            yield self._array[..., k].astype(self._kind).tobytes(order="F")
