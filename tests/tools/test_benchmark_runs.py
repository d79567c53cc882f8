import json
import subprocess
import sys
from pathlib import Path

import benchmark_fewshot
import nibabel as nib
import numpy as np
import pytest
import torch
from fewshot_benchmark import swinunetr
from fewshot_benchmark.clock import timed
from fewshot_benchmark.scheduler import split_cores, worker_environment
from monai.networks.nets import SwinUNETR

from medfm3d.adaptation import plan_adaptation
from medfm3d.cohorts import read_cohort

ORGANS = {"cube": 2, "ball": 5}


def dice_of(masks: Path, labels: Path, scored: list[str]) -> dict[tuple[str, str], float]:
    """Dice by nibabel and numpy alone, both volumes turned to RAS."""
    dice = {}
    for case in scored:
        mask, label = (
            np.asarray(nib.as_closest_canonical(nib.load(folder / f"{case}.nii.gz")).dataobj)
            for folder in (masks, labels)
        )
        for organ, value in ORGANS.items():
            both = (mask == value) & (label == value)
            dice[case, organ] = 2 * both.sum() / ((mask == value).sum() + (label == value).sum())
    return dice


@pytest.mark.slow
def test_method_and_peer_are_run_and_scored_on_the_same_cases(small_cohort: Path, tmp_path: Path, monkeypatch, capsys):
    pytest.importorskip("nnunetv2", reason="the peer nnU-Net is not installed")
    arguments = ["--work", str(tmp_path), "--data", str(small_cohort.parent), "--cohort", small_cohort.name]
    arguments += ["--split", "development", "--k", "1", "--seeds", "1", "--cases", "2"]
    arguments += ["--methods", "decoder:iterations=4,decoder:no_such_value=1", "--peers", "nnunet", "--budget-s", "1"]
    monkeypatch.setattr("sys.argv", ["benchmark_fewshot.py", *arguments])
    benchmark_fewshot.main()
    told = capsys.readouterr().out
    folder = tmp_path / small_cohort.name / "1" / "0"
    results = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    failed = results.pop("decoder_no_such_value=1")
    assert failed["status"] == "failed"
    assert "has no 'no_such_value'" in failed["error"]
    assert results.keys() == {"decoder_iterations=4", "nnunet@1s"}
    (scored,) = {tuple(result["scored"]) for result in results.values()}
    for name, result in results.items():
        assert result["status"] == "done", result.get("error")
        expected = dice_of(folder / name / "masks", small_cohort / "labelsTr", list(scored))
        assert {(s["case"], s["organ"]): s["dice"] for s in result["scores"]} == pytest.approx(expected, abs=1e-6)
        assert f"{np.mean(list(expected.values())):.3f}" in next(
            line for line in told.splitlines() if line.startswith(f"| 1 | {result['label']} |")
        )
        assert result["labels_used"] == len(result["support"]) == 1
        assert not set(result["support"]) & set(scored)
        assert result["trained_parameters"] > 100_000
        assert result["adaptation"]["cpu_s"] > 0.5
        assert result["peak_memory_mb"] > 200
    assert results["nnunet@1s"]["details"]["iterations"] >= 4

    made = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    benchmark_fewshot.main()
    assert "3 runs, 3 of them made before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.json")} == made


@pytest.mark.slow
def test_swinunetr_learns_and_writes_masks_on_the_scans_grids(small_cohort: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(swinunetr, "FEATURE_SIZE", 12)
    monkeypatch.setattr(swinunetr, "WINDOWS", 1)
    first, _, _, other, *_ = read_cohort(small_cohort).cases  # stored in RAS and in AIL
    method = swinunetr.SwinUnetr(plan_adaptation([first], ORGANS), [(28.0, 40.8, 45.0)], seed=0, budget_s=0.1)
    assert method.window == (64, 64, 64)
    fresh = SwinUNETR(in_channels=1, out_channels=3, feature_size=12)
    done = method.adapt([first])
    assert done["iterations"] == 4
    assert done["trained_parameters"] == sum(weight.numel() for weight in fresh.parameters())
    assert all(torch.isfinite(weight).all() for weight in method.network.parameters())
    method.segment([other], tmp_path)
    mask, scan = nib.load(tmp_path / "case_3.nii.gz"), nib.load(other.image)
    assert mask.shape == scan.shape
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, *ORGANS.values()}


def test_a_run_that_dies_is_a_failure_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from fewshot_benchmark import scheduler
    from fewshot_benchmark.job import Job
    from fewshot_benchmark.results import read_result

    # As if the system had killed it for want of memory.
    dying = tmp_path / "dying"
    dying.write_text("#!/bin/sh\necho last words\nkill -9 $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(scheduler.sys, "executable", str(dying))
    job = Job("data", "cohort", (), 1, 0, "decoder")
    assert list(scheduler.run_all([job], tmp_path)) == [job]
    error = read_result(job, tmp_path)["error"]
    assert "killed by signal 9" in error and "last words" in error


def test_runs_side_by_side_have_cores_of_their_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {4, 2, 7, 5}, raising=False)
    assert split_cores(2, 2) == [[2, 4], [5, 7]]
    with pytest.raises(ValueError, match="need 6 cores"):
        split_cores(3, 2)
    assert worker_environment(2)["OMP_NUM_THREADS"] == "2"


def test_clock_counts_work_not_waiting():
    with timed() as stage:
        total = sum(number * number for number in range(3_000_000))
    assert total > 0
    assert stage.cpu_s > 0.02
    with timed() as waiting:
        subprocess.run(["sleep", "0.3"], check=True)
    assert waiting.wall_s >= 0.3
    assert waiting.cpu_s < 0.2


def test_peak_memory_is_the_process_s_own(repository: Path):
    held = bytearray(400 * 2**20)  # which a process that is started from here must not count as its own
    held[:: 2**12] = b"1" * len(held[:: 2**12])
    code = "from fewshot_benchmark.clock import peak_memory_mb as peak; a = peak(); b = b'1' * 2**28; print(a, peak())"
    told = subprocess.run([sys.executable, "-c", code], cwd=repository / "tools", capture_output=True, check=True)
    before, after = map(float, told.stdout.split())
    assert before < 200
    assert before + 250 < after < before + 300
