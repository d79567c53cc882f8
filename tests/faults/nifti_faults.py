"""NIfTI files that are no usable scan."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from fault import GOOD_SHAPE, faults_of

RNG_SEED = 3
AFFINE = np.array([[-1.0, 0, 0, 20], [0, 1.2, 0, -30], [0, 0, 1.5, 40], [0, 0, 0, 1]])
# Byte offsets in the NIfTI-1 header (nifti1.h).
DIM, DATATYPE, PIXDIM, UNITS, QFORM_CODE, QUATERN_B, SROW_X, MAGIC = 40, 70, 76, 123, 252, 256, 280, 344


def voxels(dtype: str = "float32", shape: Sequence[int] = GOOD_SHAPE) -> np.ndarray:
    return np.random.default_rng(RNG_SEED).integers(0, 200, shape).astype(dtype)


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE) -> None:
    nib.Nifti1Image(array, affine).to_filename(path)


def array(make: Callable[[], np.ndarray]) -> Callable[[Path], None]:
    """A file of other voxels."""
    return lambda path: save(path, make())


def spoilt(value: float, dtype: str = "float32") -> Callable[[Path], None]:
    """A file with one voxel of another value."""

    def make(path: Path) -> None:
        spoilt_voxels = voxels(dtype)
        spoilt_voxels[1, 2, 3] = value
        save(path, spoilt_voxels)

    return make


def grid(affine: np.ndarray, shape: Sequence[int] = GOOD_SHAPE) -> Callable[[Path], None]:
    return lambda path: save(path, voxels(shape=shape), affine)


def header(*changes: tuple[int, np.ndarray], dtype: str = "float32") -> Callable[[Path], None]:
    """A file whose header has other bytes from an offset on."""

    def make(path: Path) -> None:
        plain = nib.Nifti1Image(voxels(dtype), AFFINE).to_bytes()
        content = bytearray(plain)
        for offset, values in changes:
            content[offset : offset + values.nbytes] = values.tobytes()
        path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))

    return make


def content(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A file whose bytes, as they lie on the disk, are changed."""

    def make(path: Path) -> None:
        save(path, voxels())
        path.write_bytes(change(path.read_bytes()))

    return make


def flip_one_bit(packed: bytes) -> bytes:
    return packed[:-7] + bytes([packed[-7] ^ 1]) + packed[-6:]  # within the checksum, so that it unpacks


def f32(*values: float) -> np.ndarray:
    return np.array(values, dtype="<f4")


def i16(*values: int) -> np.ndarray:
    return np.array(values, dtype="<i2")


def forms_apart(path: Path) -> None:
    image = nib.Nifti1Image(voxels(), AFFINE)
    image.set_sform(AFFINE, code=1)
    moved = AFFINE.copy()
    moved[:3, 3] += 20
    image.set_qform(moved, code=1)
    image.to_filename(path)


def sheared() -> np.ndarray:
    affine = np.eye(4)
    affine[:2, 2] = 0.6, 0.8 * 0
    affine[2, 2] = 0.8
    return affine


def doubled_axis(path: Path) -> None:
    image = nib.Nifti1Image(voxels(), np.eye(4))
    affine = np.eye(4)
    affine[:3, 1] = affine[:3, 0]
    image.set_sform(affine, code=1)
    image.to_filename(path)


RGB = np.zeros(GOOD_SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])

PACKED = faults_of(
    ("no bytes", "is empty (0 bytes); copy or export it again", lambda path: path.touch()),
    ("gzip cut short", "copy or export it again", content(lambda packed: packed[: len(packed) // 2])),
    ("gzip with a wrong checksum", "ends too early or is damaged (CRC check failed", content(flip_one_bit)),
    ("gzip with other bytes behind it", "ends too early or is damaged", content(lambda packed: packed + b"more")),
    (
        "not gzip in spite of its name",
        "is not gzip-compressed in spite of its name; rename it",
        content(gzip.decompress),
    ),
    ("text", "is not a NIfTI file", lambda path: path.write_bytes(gzip.compress(b"not a scan" * 100))),
    ("NaN", "1 voxels are NaN or infinite; replace them", spoilt(np.nan)),
    ("infinity", "1 voxels are NaN or infinite; replace them", spoilt(np.inf)),
    ("number too large for float32", "1 voxels are NaN or infinite; replace them", spoilt(1e300, "float64")),
    (
        "four dimensions",
        "has 4 dimensions (8, 8, 8, 3); save one of its frames",
        array(lambda: voxels(shape=(8, 8, 8, 3))),
    ),
    ("two dimensions", "has 2 dimensions (8, 9); give one 3D volume", array(lambda: voxels(shape=(8, 9)))),
    ("colours", "holds colours (RGB); give a scan with one number per voxel", array(lambda: RGB)),
    ("complex numbers", "holds complex64 voxels; give one real number per voxel", array(lambda: voxels("complex64"))),
    ("one voxel", "has shape 1 x 1 x 1; give one 3D volume", array(lambda: voxels(shape=(1, 1, 1)))),
    ("single slice", "has shape 12 x 11 x 1; give one 3D volume", array(lambda: voxels(shape=(12, 11, 1)))),
    ("no voxels at all", "has shape 12 x 0 x 10; give one 3D volume", array(lambda: voxels(shape=(12, 0, 10)))),
    ("one value throughout", "all voxels are 7.0; export the scan again", array(lambda: 0 * voxels() + 7)),
    ("negative voxel size", "voxel size (pixdim) is", header((PIXDIM + 4, f32(-1.0)))),
    ("zero voxel size", "voxel size (pixdim) is", header((PIXDIM + 12, f32(0.0)))),
    ("voxel size that is no number", "voxel size (pixdim) is", header((PIXDIM + 8, f32(np.nan)))),
    ("tiny voxels", "spacing is 0.001 x 0.001 x 0.001 mm, outside 0.01 to 50 mm", grid(np.diag([1e-3, 1e-3, 1e-3, 1]))),
    ("huge voxels", "spacing is 1 x 1 x 400 mm, outside 0.01 to 50 mm", grid(np.diag([1.0, 1, 400, 1]))),
    ("voxels in metres", "gives sizes in metres; bring them and the header to mm", header((UNITS, np.uint8([1])))),
    (
        "five metres long",
        "mm; write the voxel size in millimetres into its header",
        grid(np.diag([45, 1.0, 1, 1]), (112, 4, 4)),
    ),
    ("two axes in one direction", "its directions are singular: two axes are the same", doubled_axis),
    ("sheared", "is sheared: two axes meet at 53.13 instead of 90 degrees; resample it", grid(sheared())),
    ("affine that is no number", "its affine is not a finite 4 x 4 matrix", header((SROW_X, f32(np.nan)))),
    ("two voxel sizes", "its header gives two voxel sizes", header((PIXDIM + 12, f32(5.0)))),
    (
        "no orientation",
        "neither sform nor qform is set, so left and right are unknown",
        lambda path: save(path, voxels(), None),
    ),
    (
        "orientation that is no rotation",
        "is not a readable NIfTI file",
        header((QFORM_CODE, i16(1, 0)), (QUATERN_B, f32(3.0, 3.0, 3.0))),
    ),
    suffix=".nii.gz",
)
PLAIN = faults_of(
    ("cut short", "more than can lie in", content(lambda plain: plain[: len(plain) // 2])),
    ("header cut short", "copy or export it again", content(lambda plain: plain[:200])),
    (
        "wrong magic number",
        "is not a NIfTI file, its magic number is wrong",
        header((MAGIC, np.frombuffer(b"n+7\0", "u1"))),
    ),
    ("gzip in spite of its name", "is gzip-compressed in spite of its name; rename it", content(gzip.compress)),
    ("header with a wider type", "more than can lie in", header((DATATYPE, i16(64)))),
    (
        "header with a narrower type",
        "goes on behind the 12 x 11 x 10 voxels of uint8",
        header((DATATYPE, i16(2)), dtype="int16"),
    ),
    ("header with an unknown type", "is not a readable NIfTI file", header((DATATYPE, i16(9999)))),
    ("header with more slices", "more than can lie in", header((DIM + 6, i16(400)))),
    ("header with fewer slices", "goes on behind the 12 x 11 x 7 voxels of float32", header((DIM + 6, i16(7)))),
    ("header with a huge shape", "more than can lie in", header((DIM + 2, i16(30000, 30000, 30000)))),
    ("header with a negative side", "copy or export it again", header((DIM + 2, i16(-12)))),
    ("data that begins nowhere", "copy or export it again", header((108, f32(np.inf)))),
    suffix=".nii",
)
DOUBTFUL = faults_of(
    ("sform and qform apart", "sform and qform differ by 34.6 mm at the far corner; sform is used", forms_apart),
    suffix=".nii.gz",
)
