"""NIfTI files with damaged headers: each gives a sound volume or an error that names it, and takes no undue memory."""

import gzip
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfm3d.volumes import VolumeError, check_volume, read_label, read_volume

HEADER_BYTES = 348
SHAPE = (9, 8, 7)
MOST_BYTES = 3_000_000  # that reading may take of memory: the file's 352 + 1008 bytes, unpacked at most a thousandfold
FUZZ = settings(max_examples=300, deadline=None, derandomize=True)

FIELDS = nib.nifti1.header_dtype
EDGES = {
    "i": [0, 1, -1, 2, 3, 7, 127, 255, 256, 1024, 32767, -32768],
    "u": [0, 1, 2, 3, 255],
    "f": [0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, 1e-30, 3e38, -3e38, 352.0, 1e9],
}


def whole_file() -> bytes:
    array = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)
    return nib.Nifti1Image(array, np.diag([-1.0, 1.5, 2.0, 1.0])).to_bytes()


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


def check_reading(content: bytes, folder: Path, packed: bool) -> None:
    path = folder / ("scan.nii.gz" if packed else "scan.nii")
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for read in (read_volume, read_label):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of VolumeWarning, where a scan is doubtful; numpy's would be a fault
            warnings.filterwarnings("error", category=RuntimeWarning)
            try:
                volume = read(path)
            except VolumeError as error:
                assert str(path) in str(error) and ";" in str(error)
                continue
        assert volume.array.ndim == 3 and np.isfinite(volume.affine).all()
        if read is read_volume:
            check_volume(volume)
    assert tracemalloc.get_traced_memory()[1] - before < MOST_BYTES


def test_flipped_bits_of_the_header(folder: Path) -> None:
    @FUZZ
    @given(st.lists(st.integers(0, 8 * HEADER_BYTES - 1), min_size=1, max_size=4), st.booleans())
    def holds(bits: list[int], packed: bool) -> None:
        content = bytearray(whole_file())
        for bit in bits:
            content[bit // 8] ^= 1 << bit % 8
        check_reading(bytes(content), folder, packed)

    holds()


@st.composite
def edge_values(draw: st.DrawFn) -> tuple[str, int, float]:
    """A field of the header, one of its entries, and a value at the edge of what it can hold."""
    name = draw(st.sampled_from([name for name in FIELDS.names if FIELDS[name].base.kind in EDGES]))
    kind = FIELDS[name]
    number = draw(st.integers(0, max(0, int(np.prod(kind.shape, dtype=int)) - 1)))
    return name, number, draw(st.sampled_from(EDGES[kind.base.kind]))


def test_fields_of_the_header_with_values_at_their_edges(folder: Path) -> None:
    @FUZZ
    @given(st.lists(edge_values(), min_size=1, max_size=3), st.booleans())
    def holds(changes: list[tuple[str, int, float]], packed: bool) -> None:
        content = whole_file()
        header = np.frombuffer(content[:HEADER_BYTES], dtype=FIELDS).copy()
        for name, number, value in changes:
            with np.errstate(all="ignore"):
                header[name].reshape(-1)[number] = np.array(value).astype(header[name].dtype)
        check_reading(header.tobytes() + content[HEADER_BYTES:], folder, packed)

    holds()


def test_bytes_that_are_no_file(folder: Path) -> None:
    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.binary(max_size=800), st.booleans())
    def holds(content: bytes, packed: bool) -> None:
        check_reading(content, folder, packed)

    holds()
