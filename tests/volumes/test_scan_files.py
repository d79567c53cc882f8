"""Which files a scan is made of."""

from pathlib import Path

import numpy as np
import pytest

from medfm3d.cohorts.preprocessed_cache import ContentHash
from medfm3d.inference.batch_journal import scan_stamp
from medfm3d.volumes import Volume, read_volume, write_volume
from medfm3d.volumes.scan_files import scan_files

VOLUME = Volume(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.eye(4))


def test_a_file_is_itself_and_a_series_is_its_slices(tmp_path: Path) -> None:
    file = write_volume(VOLUME, tmp_path / "scan.nii.gz")
    write_volume(VOLUME, tmp_path / "other.nrrd")
    assert scan_files(file) == [file] and scan_files(tmp_path / "absent.nii") == []
    assert scan_files(tmp_path) == [tmp_path / "other.nrrd", file]


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_voxels_of_another_name_than_their_header_count(tmp_path: Path, suffix: str) -> None:
    header = write_volume(VOLUME, tmp_path / f"scan{suffix}")
    (own,) = (path for path in tmp_path.iterdir() if path != header)
    named = own.rename(tmp_path / f"the voxels{own.suffix}")
    header.write_bytes(header.read_bytes().replace(own.name.encode(), named.name.encode()))
    write_volume(VOLUME, tmp_path / "other.nii.gz")
    np.testing.assert_array_equal(read_volume(header).array, VOLUME.array)
    assert scan_files(header) == sorted([header, named])
    stamp, content = scan_stamp(header), ContentHash()({"image": str(header)})
    named.write_bytes(named.read_bytes() + b"more")
    assert scan_stamp(header) != stamp and ContentHash()({"image": str(header)}) != content


def test_of_a_header_that_names_a_list_all_files_beside_count(tmp_path: Path) -> None:
    for name in ("slice_1.raw", "slice_2.raw"):
        (tmp_path / name).write_bytes(b"voxels")
    header = tmp_path / "scan.mhd"
    header.write_text("ObjectType = Image\nElementDataFile = LIST\nslice_1.raw\nslice_2.raw\n")
    assert scan_files(header) == [header, tmp_path / "slice_1.raw", tmp_path / "slice_2.raw"]
