"""The tools behind docs/scaling.md measure what they say, and the page says what they print."""

import json
import sys
from pathlib import Path

import benchmark_data_loading
import compare_volume_formats
import estimate_pretraining_cost
import nibabel as nib
import numpy as np
import pytest


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for index in range(2):
        array = np.random.default_rng(index).normal(50, 10, (24 + index, 20, 22)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{index}.nii.gz")
    return folder


def test_loading_is_measured_for_each_source(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = ["--data", scans, "--window", 16, "--windows", 8, "--rounds", 1, "--workers", 0, "--work", tmp_path]
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, [*words, "--json", tmp_path / "result.json"])])
    benchmark_data_loading.main()
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["disk_bytes"]["nifti"] == sum(file.stat().st_size for file in scans.iterdir())
    assert result["voxels"] == (24 + 25) * 20 * 22
    assert result["disk_bytes"]["cache"] > 2 * result["voxels"] > 0.5 * result["disk_bytes"]["store"]
    assert [row["source"] for row in result["warm"]] == ["nifti", "cache", "store"]
    assert all(row["windows_per_s"] > 0 and row["cpu_s_per_window"] > 0 for row in result["warm"])
    printed = capsys.readouterr().out
    assert "| nifti | 0 |" in printed and "| 1.0 |" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "scans"]


def test_every_format_gives_back_the_window(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(0, 1, (70, 65, 40)).astype(np.float16)
    window = (slice(3, 69), slice(0, 33), slice(7, 40))
    for number, (name, write) in enumerate(compare_volume_formats.formats(volume).items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert np.array_equal(write(folder)(window), volume[window]), name


def test_counts_of_small_windows_give_those_of_larger_ones() -> None:
    arguments = estimate_pretraining_cost.parse_arguments([])
    direct = estimate_pretraining_cost.count(estimate_pretraining_cost.build("vit_tiny", arguments), 80)
    extrapolated = estimate_pretraining_cost.counted("vit_tiny", arguments, 80)
    assert extrapolated["flops"] == direct["flops"]
    assert extrapolated["kept_bytes"] == pytest.approx(direct["kept_bytes"], rel=0.02)


def test_the_page_shows_what_the_script_prints(repository: Path) -> None:
    measured = json.loads((repository / "docs" / "scaling_measured.json").read_text())
    assert estimate_pretraining_cost.tables(measured) in (repository / "docs" / "scaling.md").read_text()
