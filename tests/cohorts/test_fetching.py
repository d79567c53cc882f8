"""A cohort is fetched by its manifest, from the server to a folder that reads."""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from medfm3d.cohorts import ArchiveError, DownloadError, ManifestError, fetch, read_cohort


@pytest.fixture
def archive(tmp_path, write_case) -> bytes:
    """A cohort in Decathlon layout as a tar file."""
    folder = tmp_path / "source" / "Task99_Own"
    write_case(folder / "imagesTr/a.nii.gz", folder / "labelsTr/a.nii.gz")
    write_case(folder / "imagesTs/b.nii.gz")
    listed = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    labels = {"0": "background", "1": "liver"}
    content = {"name": "Own", "labels": labels, "training": [listed], "test": ["./imagesTs/b.nii.gz"]}
    (folder / "dataset.json").write_text(json.dumps(content))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, "Task99_Own")
    return packed.getvalue()


def manifest(path: Path, *downloads: dict) -> Path:
    content = {
        "id": "own",
        "name": "Own",
        "description": "d",
        "licence": {"name": "internal"},
        "citation": [{"text": "t"}],
        "source": {"homepage": "https://example.org", "access": "open", "downloads": list(downloads)},
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver"},
        "numTraining": 1,
        "numTest": 1,
        "splits": {"development": ["a"], "test": ["b"]},
    }
    path.write_text(json.dumps(content))
    return path


def download(server, name: str, **others) -> dict:
    checksum = f"sha256:{hashlib.sha256(server.files[name]).hexdigest()}"
    return {"url": server.url(name), "filename": name, "checksum": checksum} | others


def test_from_server_to_cohort_and_not_twice(server, archive, tmp_path):
    server.files |= {"own.tar": archive, "terms.txt": b"be kind"}
    server.drops = 2
    path = manifest(tmp_path / "own.json", download(server, "own.tar"), download(server, "terms.txt", unpack=False))
    report = fetch(path, tmp_path / "data", backoff_s=0.01)
    assert not report.already_there and report.remarks == ()
    assert report.cohort_folder == tmp_path / "data/own/Task99_Own"
    assert [file.contents for file in report.files] == [("Task99_Own",), ("terms.txt",)]
    names = sorted(file.name for file in report.folder.iterdir())
    assert names == ["Task99_Own", "fetched.json", "terms.txt"]
    cohort = read_cohort(report.cohort_folder, path)
    assert cohort.names == ("a", "b") and cohort.split("test").names == ("b",)

    asked = len(server.ranges)
    again = fetch(path, tmp_path / "data")
    assert again.already_there and again.files == report.files and len(server.ranges) == asked
    assert json.loads(json.dumps(again.as_dict()))["cohort_folder"] == str(report.cohort_folder)

    (report.folder / "terms.txt").unlink()
    assert not fetch(path, tmp_path / "data").already_there
    assert (report.folder / "terms.txt").read_text() == "be kind" and len(server.ranges) == asked + 1


def test_archive_is_kept_if_asked_for(server, archive, tmp_path):
    server.files["own.tar"] = archive
    report = fetch(manifest(tmp_path / "own.json", download(server, "own.tar")), tmp_path, keep_archives=True)
    assert (report.folder / "own.tar").read_bytes() == archive


def test_unknown_checksum_is_remarked_upon_and_verified_once_known(server, archive, tmp_path):
    server.files["own.tar"] = archive
    unknown = download(server, "own.tar", checksum=None, checksum_note="none published")
    report = fetch(manifest(tmp_path / "own.json", unknown), tmp_path, keep_archives=True)
    assert hashlib.sha256(archive).hexdigest() in report.remarks[0] and "none published" in report.remarks[0]
    wrong = download(server, "own.tar", checksum="md5:" + "0" * 32)
    with pytest.raises(DownloadError, match="exists, but is not the file"):
        fetch(manifest(tmp_path / "own.json", wrong), tmp_path)


def test_wrong_checksum_unpacks_nothing(server, archive, tmp_path):
    server.files["own.tar"] = archive
    wrong = download(server, "own.tar", checksum="sha256:" + "0" * 64)
    with pytest.raises(DownloadError):
        fetch(manifest(tmp_path / "own.json", wrong), tmp_path / "data")
    assert not list((tmp_path / "data/own").iterdir())


def test_archive_that_escapes_unpacks_nothing(server, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("good.txt"))
        tar.addfile(tarfile.TarInfo("../../evil.txt"))
    server.files["own.tar"] = packed.getvalue()
    with pytest.raises(ArchiveError, match="leaves the folder"):
        fetch(manifest(tmp_path / "own.json", download(server, "own.tar")), tmp_path / "data")
    assert [path.name for path in (tmp_path / "data/own").iterdir()] == ["own.tar"]
    assert not (tmp_path / "evil.txt").exists()


def test_cohort_behind_an_application_says_how_to_get_it(tmp_path):
    with pytest.raises(ManifestError, match=re.escape("https://www.ukbiobank.ac.uk")):
        fetch("uk_biobank", tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_receipt_is_named(server, archive, tmp_path):
    server.files["own.tar"] = archive
    path = manifest(tmp_path / "own.json", download(server, "own.tar"))
    report = fetch(path, tmp_path)
    (report.folder / "fetched.json").write_text('[{"filename": "own.tar"}]')
    with pytest.raises(ManifestError, match=r"fetched\.json: not a receipt"):
        fetch(path, tmp_path)
