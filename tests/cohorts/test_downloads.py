"""Downloads end in the right file or none, however the server behaves."""

import hashlib

import numpy as np
import pytest

from medfm3d.cohorts import DownloadError, download_file
from medfm3d.cohorts import download as download_module

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture(autouse=True)
def served(server):
    server.files["a.bin"] = CONTENT


def left(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


def test_whole_file(server, tmp_path):
    file = download_file(server.url("a.bin"), tmp_path / "new" / "a.bin", checksum=SHA256)
    assert file.path.read_bytes() == CONTENT
    assert file.verified and file.size_bytes == len(CONTENT) and f"sha256:{file.sha256}" == SHA256
    assert left(tmp_path / "new") == ["a.bin"]


@pytest.mark.parametrize("checksum", [SHA256, None])
def test_goes_on_where_the_connection_was_dropped(server, tmp_path, checksum):
    server.drops = 3
    file = download_file(server.url("a.bin"), tmp_path / "a.bin", checksum=checksum, backoff_s=0.01)
    assert file.path.read_bytes() == CONTENT
    assert file.verified == (checksum is not None)
    first, *later = server.ranges
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in later]
    assert first is None and len(starts) == 3
    assert 400_000 < starts[0] < starts[1] < starts[2]
    assert left(tmp_path) == ["a.bin"]


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.drops, server.busy = 1, 2
    with pytest.raises(DownloadError, match="run it again to go on from there") as caught:
        download_file(server.url("a.bin"), tmp_path / "a.bin", attempts=2, backoff_s=0.01)
    assert "a.bin.part" in str(caught.value) and not (tmp_path / "a.bin").exists()
    kept = (tmp_path / "a.bin.part").stat().st_size
    download_file(server.url("a.bin"), tmp_path / "a.bin", backoff_s=0.01)
    assert server.ranges == [None] + 3 * [f"bytes={kept}-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_file_that_changed_on_the_server_is_not_spliced(server, tmp_path):
    server.drops, server.busy = 1, 1
    with pytest.raises(DownloadError):
        download_file(server.url("a.bin"), tmp_path / "a.bin", attempts=1, backoff_s=0.01)
    server.files["a.bin"], server.etag = CONTENT[::-1], '"second"'
    download_file(server.url("a.bin"), tmp_path / "a.bin", backoff_s=0.01)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]


def test_part_without_etag_or_checksum_is_not_trusted(server, tmp_path):
    server.etag = None
    (tmp_path / "a.bin.part").write_bytes(b"of another file")
    download_file(server.url("a.bin"), tmp_path / "a.bin")
    assert server.ranges == [None]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"more than the server has"])
def test_part_that_is_whole_or_too_long(server, tmp_path, extra):
    (tmp_path / "a.bin.part").write_bytes(CONTENT + extra)
    download_file(server.url("a.bin"), tmp_path / "a.bin", checksum=SHA256, backoff_s=0.01)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_server_that_ignores_ranges(server, tmp_path):
    server.knows_ranges, server.drops = False, 2
    download_file(server.url("a.bin"), tmp_path / "a.bin", checksum=SHA256, backoff_s=0.01)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.ranges[1] is not None  # it was asked, and sent all the same from the start


def test_busy_server_is_asked_again(server, tmp_path):
    server.busy = 2
    download_file(server.url("a.bin"), tmp_path / "a.bin", backoff_s=0.01)
    assert len(server.ranges) == 3


def test_server_that_brings_nothing_new_is_given_up(server, tmp_path):
    server.busy = 100
    with pytest.raises(DownloadError, match="3 attempts in a row brought nothing new"):
        download_file(server.url("a.bin"), tmp_path / "a.bin", attempts=3, backoff_s=0.01)
    assert len(server.ranges) == 3


def test_refusal_is_not_asked_again(server, tmp_path):
    with pytest.raises(DownloadError, match="404"):
        download_file(server.url("b.bin"), tmp_path / "b.bin")
    assert len(server.ranges) == 1 and left(tmp_path) == []


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({"checksum": "md5:" + "0" * 32}, "its md5 is"),
        ({"checksum": "sha256:" + "0" * 64}, "its sha256 is"),
        ({"size_bytes": 5}, "1000000 bytes, but 5 are expected"),
    ],
)
def test_another_file_than_described_is_an_error_and_leaves_nothing(server, tmp_path, described, told):
    with pytest.raises(DownloadError, match="it was removed") as caught:
        download_file(server.url("a.bin"), tmp_path / "a.bin", **described)
    assert told in str(caught.value) and server.url("a.bin") in str(caught.value)
    assert left(tmp_path) == []


def test_unknown_checksum_algorithm_is_told_before_the_download(server, tmp_path):
    with pytest.raises(DownloadError, match="crc"):
        download_file(server.url("a.bin"), tmp_path / "a.bin", checksum="crc:0")
    assert server.ranges == []


def test_file_that_is_there_is_verified_and_not_downloaded(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert download_file(server.url("a.bin"), tmp_path / "a.bin", checksum=SHA256).verified
    (tmp_path / "a.bin").write_bytes(b"another")
    with pytest.raises(DownloadError, match="move it away"):
        download_file(server.url("a.bin"), tmp_path / "a.bin", checksum=SHA256)
    assert server.ranges == [] and (tmp_path / "a.bin").read_bytes() == b"another"


def test_full_disk_is_told_before_the_download(server, tmp_path, monkeypatch):
    usage = download_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DownloadError, match="make room"):
        download_file(server.url("a.bin"), tmp_path / "a.bin")


@pytest.mark.parametrize("checksum", [SHA256, None])
def test_server_that_sends_less_than_the_range(server, tmp_path, checksum):
    server.drops, server.longest = 1, 200_000
    file = download_file(server.url("a.bin"), tmp_path / "a.bin", checksum=checksum, backoff_s=0.01)
    assert file.path.read_bytes() == CONTENT and len(server.ranges) > 2


def test_whole_part_of_known_size_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    download_file(server.url("a.bin"), tmp_path / "a.bin", checksum=SHA256, size_bytes=len(CONTENT))
    assert server.ranges == [] and left(tmp_path) == ["a.bin"]
