"""`medfm3d data` prints what it found, writes it as JSON, and ends with the right exit code."""

import hashlib
import io
import json
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from medfm3d.cli.data import data
from medfm3d.cohorts import ManifestError
from medfm3d.volumes import Volume, write_volume


def run(*arguments: object) -> Result:
    return CliRunner().invoke(data, [*map(str, arguments), "--device", "cpu"])


@pytest.fixture
def scans(tmp_path) -> Path:
    (tmp_path / "scans").mkdir()
    for name in "ab":
        array = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
        write_volume(Volume(array, np.eye(4)), tmp_path / "scans" / f"{name}.nii.gz")
    return tmp_path / "scans"


@pytest.fixture
def manifest(scans, tmp_path) -> Path:
    """A manifest of the scans, as a zip file on a loopback server."""
    served = tmp_path / "served"
    served.mkdir()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for path in scans.iterdir():
            zipped.write(path, f"own/{path.name}")
    (served / "own.zip").write_bytes(packed.getvalue())
    handler = partial(_QuietHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        download = {
            "url": f"http://127.0.0.1:{server.server_port}/own.zip",
            "filename": "own.zip",
            "checksum": f"sha256:{hashlib.sha256(packed.getvalue()).hexdigest()}",
        }
        content = {
            "id": "own",
            "name": "Own",
            "description": "d",
            "licence": {"name": "internal"},
            "citation": [{"text": "t"}],
            "source": {"homepage": "https://example.org", "access": "open", "downloads": [download]},
            "tensorImageSize": "3D",
            "modality": {"0": "CT"},
            "labels": {"0": "background"},
            "numTraining": 0,
            "numTest": 2,
            "splits": {},
        }
        (tmp_path / "own.json").write_text(json.dumps(content))
        yield tmp_path / "own.json"
        server.shutdown()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def test_list_names_every_cohort(tmp_path):
    result = run("list", "--json", tmp_path / "cohorts.json")
    assert result.exit_code == 0, result.output
    cohorts = json.loads((tmp_path / "cohorts.json").read_text())["cohorts"]
    assert {"msd_hippocampus", "uk_biobank", "totalsegmentator_ct"} <= {cohort["name"] for cohort in cohorts}
    assert all(cohort["name"] in result.output for cohort in cohorts)


def test_fetch_and_fetch_again(manifest, tmp_path):
    written = tmp_path / "fetched.json"
    for told, already_there in (("fetched", False), ("already there", True)):
        result = run("fetch", manifest, "--output", tmp_path / "data", "--json", written)
        assert result.exit_code == 0, result.output
        assert told in result.output and "own.zip" in result.output and "verified" in result.output
        report = json.loads(written.read_text())
        assert report["already_there"] is already_there and report["files"][0]["contents"] == ["own"]
    assert sorted(path.name for path in (tmp_path / "data/own/own").iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_fetch_that_fails_ends_with_1(manifest, tmp_path):
    content = json.loads(manifest.read_text())
    content["source"]["downloads"][0]["checksum"] = "md5:" + "0" * 32
    manifest.write_text(json.dumps(content))
    for name, told in ((manifest, "its md5 is"), ("uk_biobank", "cannot be fetched"), ("no_such", "no manifest")):
        result = run("fetch", name, "--output", tmp_path / "data")
        assert result.exit_code == 1
        assert isinstance(result.exception, ManifestError) and told in str(result.exception)


def test_check_ends_with_0_or_with_1_and_the_faults(scans, tmp_path):
    result = run("check", scans, "--json", tmp_path / "check.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "check.json").read_text())["num_cases"] == 2
    (scans / "[b].nii.gz").write_bytes(b"")
    result = run("check", scans, "--json", tmp_path / "check.json")
    assert result.exit_code == 1 and "[b].nii.gz: is empty (0 bytes)" in result.output
    (fault,) = json.loads((tmp_path / "check.json").read_text())["faults"]
    assert fault["case"] == "[b]"


def test_check_of_real_bad_inputs(real_data):
    result = run("check", real_data / "bad_inputs")
    assert result.exit_code == 1 and "empty_file.nii.gz: is empty" in result.output


def test_check_against_a_manifest(real_data):
    result = run("check", real_data / "headneck_ct", "--manifest", "msd_liver")
    assert result.exit_code == 1 and "not those of the manifest msd_liver" in result.output
