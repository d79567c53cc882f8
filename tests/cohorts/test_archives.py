"""Archives are unpacked whole, or refused before anything is written."""

import io
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from medfm3d.cohorts import ArchiveError, ManifestError, unpack_archive
from medfm3d.cohorts import archive as archive_module


def tar_of(path: Path, *members: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for member in (file("good/a.txt"), *members):
            tar.addfile(member, io.BytesIO(b"text"[: member.size]))
    return path


def file(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 4
    return member


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zip_of(path: Path, *infos: zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for info in (zipfile.ZipInfo("good/a.txt"), *infos):
            zipped.writestr(info, "text")
    return path


def zip_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_is_unpacked_beside_what_is_there(tmp_path, mode):
    out = tmp_path / "out"
    out.mkdir()
    (out / "older").touch()
    archive = tar_of(tmp_path / "a.tar", file("good/deep/b.txt"), file("top.txt"), mode=mode)
    assert unpack_archive(archive, out) == [out / "good", out / "top.txt"]
    assert (out / "good/deep/b.txt").read_text() == "text"
    assert sorted(path.name for path in out.iterdir()) == ["good", "older", "top.txt"]


def test_zip_is_unpacked(tmp_path):
    archive = zip_of(tmp_path / "a.zip", zipfile.ZipInfo("good/deep/b.txt"))
    assert unpack_archive(archive, tmp_path / "new" / "out") == [tmp_path / "new" / "out" / "good"]
    assert (tmp_path / "new/out/good/deep/b.txt").read_text() == "text"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: tar_of(p, file("../evil.txt")), "'../evil.txt' leaves the folder"),
        (lambda p: tar_of(p, file("good/../../evil.txt")), "leaves the folder"),
        (lambda p: tar_of(p, file(str(p.parent / "evil.txt"))), "is an absolute path"),
        (lambda p: tar_of(p, file("C:\\evil.txt")), "is an absolute path"),
        (lambda p: tar_of(p, file("..\\evil.txt")), "leaves the folder"),
        (lambda p: tar_of(p, special("out", tarfile.SYMTYPE, ".."), file("out/evil.txt")), "'out' is a link"),
        (lambda p: tar_of(p, special("good/out", tarfile.SYMTYPE, str(p.parent))), "is a link"),
        (lambda p: tar_of(p, special("hard", tarfile.LNKTYPE, "../a.archive")), "is a link"),
        (lambda p: tar_of(p, special("pipe", tarfile.FIFOTYPE)), "another special file"),
        (lambda p: tar_of(p, special("disk", tarfile.BLKTYPE)), "another special file"),
        (lambda p: zip_of(p, zipfile.ZipInfo("../evil.txt")), "'../evil.txt' leaves the folder"),
        (lambda p: zip_of(p, zipfile.ZipInfo("/evil.txt")), "is an absolute path"),
        (lambda p: zip_of(p, zip_link("good/out")), "is a link"),
    ],
)
def test_archive_with_a_member_that_escapes_is_refused_whole(tmp_path, make: Callable[[Path], Path], told):
    archive = make(tmp_path / "a.archive")
    with pytest.raises(ArchiveError, match="nothing was unpacked") as caught:
        unpack_archive(archive, tmp_path / "out")
    assert told in str(caught.value) and str(archive) in str(caught.value)
    assert not list((tmp_path / "out").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"a.archive", "out"}


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_truncated_archive_leaves_nothing(tmp_path, mode):
    member = tarfile.TarInfo("big.bin")
    noise = bytes(range(256)) * 4000
    member.size = len(noise)
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, mode) as tar:
        tar.addfile(member, io.BytesIO(noise))
    archive.write_bytes(archive.read_bytes()[:-60])
    with pytest.raises(ArchiveError, match=r"a\.tar"):
        unpack_archive(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_damaged_zip_member_is_an_error(tmp_path):
    archive = zip_of(tmp_path / "a.zip", zipfile.ZipInfo("good/b.txt"))
    archive.write_bytes(archive.read_bytes().replace(b"text", b"tent"))
    with pytest.raises(ArchiveError, match="download it again"):
        unpack_archive(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_what_is_no_archive_is_an_error_of_the_family(tmp_path):
    (tmp_path / "a.tar").write_text("<html>not found</html>")
    with pytest.raises(ManifestError, match="neither a tar nor a zip"):
        unpack_archive(tmp_path / "a.tar", tmp_path / "out")


def test_nothing_is_overwritten(tmp_path):
    archive = tar_of(tmp_path / "a.tar")
    unpack_archive(archive, tmp_path / "out")
    (tmp_path / "out/good/a.txt").write_text("mine")
    with pytest.raises(ArchiveError, match="good already exists"):
        unpack_archive(archive, tmp_path / "out")
    assert (tmp_path / "out/good/a.txt").read_text() == "mine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]


def test_archive_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archive_module.shutil, "disk_usage", lambda _: usage._replace(free=7))
    with pytest.raises(ArchiveError, match="make room"):
        unpack_archive(tar_of(tmp_path / "a.tar", file("b.txt")), tmp_path / "out")  # 8 bytes
    assert not list((tmp_path / "out").iterdir())
