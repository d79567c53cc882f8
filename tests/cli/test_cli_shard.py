"""`medfm3d data shard` stores scans, says what it left out, and ends with exit code 1 at a bad scan."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from medfm3d.cli.data import data
from medfm3d.cohorts.volume_store import VolumeStore
from medfm3d.volumes import Volume, VolumeError, write_volume


def run(*arguments: object) -> Result:
    return CliRunner().invoke(data, ["shard", *map(str, arguments), "--device", "cpu"])


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        write_volume(Volume(rng.normal(50, 9, (12, 10, 11)).astype(np.float32), np.eye(4)), folder / f"{name}.nii.gz")
    (folder / "b.nii.gz").write_bytes(b"no scan")
    return folder


def test_a_bad_scan_is_left_out_only_if_asked(scans: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    refused = run(scans, "--output", store)
    assert isinstance(refused.exception, VolumeError) and "b.nii.gz" in str(refused.exception)
    done = run(scans, "--output", store, "--skip-bad", "--verify", "--json", tmp_path / "result.json")
    assert done.exit_code == 0, done.output
    assert "left out" in done.output and "b.nii.gz" in done.output
    assert "2 volumes in 1 shards" in done.output
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["volumes"] == 2 == len(VolumeStore(store).volumes)
    assert result["bytes"] == sum(file.stat().st_size for file in store.glob("*.b2"))
    assert [Path(entry["source"]).name for entry in result["skipped"]] == ["b.nii.gz"]


def test_settings_of_the_command_are_those_of_the_store(scans: Path, tmp_path: Path) -> None:
    (scans / "b.nii.gz").unlink()
    done = run(scans, "--output", tmp_path / "s", "--spacing-mm", 2, "--modality", "MR", "--volumes-per-shard", 1)
    assert done.exit_code == 0, done.output
    store = VolumeStore(tmp_path / "s")
    assert store.settings["spacing_mm"] == [2.0, 2.0, 2.0] and store.settings["modality"] == "MR"
    assert [volume.shape for volume in store.volumes] == [(1, 6, 6, 6)] * 2 and len(store.shards) == 2
