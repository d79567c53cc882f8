"""A batch in shards: each scan once, journals apart, one summary; and the Slurm script."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medfm3d.cli.segment import run_segmentation
from medfm3d.inference import BatchJournal, BatchShard, write_shared_summary
from medfm3d.inference.batch_journal import CaseRecord
from medfm3d.volumes import read_label


def listed(output: Path) -> dict[str, str]:
    """Errors in the summary by case."""
    with (output / "summary.csv").open(newline="") as file:
        return {row["case"]: row["error"] for row in csv.DictReader(file)}


@pytest.fixture
def scans(small_cohort: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, original in enumerate(sorted((small_cohort / "imagesTr").glob("*.nii.gz"))):
        (folder / f"scan_{number}.nii.gz").symlink_to(original)
    (folder / "scan_4.nii.gz").unlink()
    (folder / "scan_4.nii.gz").write_bytes(b"nothing")
    return folder


def test_every_scan_is_in_one_shard() -> None:
    names = [Path(f"scan_{number}") for number in range(11)]
    for count in (1, 2, 3, 11, 20):
        parts = [BatchShard(number, count).of(names) for number in range(1, count + 1)]
        assert sorted(name for part in parts for name in part) == sorted(names)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert BatchShard.parse("2/8") == BatchShard(2, 8)
    for wrong in ("0/8", "9/8", "2", "2/", "a/b", "-1/2", "1/0"):
        with pytest.raises(ValueError, match="I/N"):
            BatchShard.parse(wrong)


def test_shards_make_one_batch(bundle: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    first = run_segmentation(bundle, scans, out, shard=BatchShard(1, 2), device="cpu")
    assert [Path(mask).name for mask in first["masks"]] == ["scan_0.nii.gz", "scan_2.nii.gz"]
    assert [Path(scan).name for scan in first["failed"]] == ["scan_4.nii.gz"] and first["not_done_yet"] == 3
    assert list(listed(out)) == ["scan_0", "scan_2", "scan_4"]
    second = run_segmentation(bundle, scans, out, shard=BatchShard(2, 2), device="cpu")
    assert len(second["masks"]) == 3 and not second["failed"] and second["not_done_yet"] == 0
    names = [f"segmentation_journal.{number}_of_2.jsonl" for number in (1, 2)]
    assert sorted(path.name for path in out.glob("segmentation_journal*")) == names
    errors = listed(out)
    assert list(errors) == [f"scan_{number}" for number in range(6)]
    assert "scan_4.nii.gz" in errors["scan_4"] and not errors["scan_5"]
    # Without shards, or with others, nothing that is there is made again.
    (scans / "scan_4.nii.gz").unlink()
    (scans / "scan_4.nii.gz").symlink_to((scans / "scan_0.nii.gz").resolve())
    assert run_segmentation(bundle, scans, out, shard=BatchShard(1, 3), device="cpu")["resumed"] == 2
    whole = run_segmentation(bundle, scans, out, device="cpu")
    assert whole["resumed"] == 5 and len(whole["masks"]) == 6 and not any(listed(out).values())


def test_a_mask_that_was_made_otherwise_since_is_not_taken_for_that_of_a_shard(
    bundle: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "masks"
    one = scans / "scan_0.nii.gz"
    run_segmentation(bundle, one, out, shard=BatchShard(1, 1), device="cpu")
    run_segmentation(bundle, one, out, apply_priors=True, device="cpu")
    assert run_segmentation(bundle, one, out, shard=BatchShard(1, 1), device="cpu")["resumed"] == 0


def test_the_summary_of_the_shard_that_ends_last_lists_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another shard ends between this one's look at the journals and its summary."""
    scans = [Path("a.nii.gz"), Path("b.nii.gz")]
    ours, theirs = (BatchJournal(tmp_path, "mark", BatchShard(number, 2).journal_name) for number in (1, 2))
    ours.add(CaseRecord("a.nii.gz", "", "mark", error="no", finished=1.0))
    look, looks = BatchJournal.of_this_batch, []

    def interleaved(journal: BatchJournal, asked: list[Path]) -> dict[Path, CaseRecord]:
        known = look(journal, asked)
        if not looks:
            looks.append(1)
            theirs.add(CaseRecord("b.nii.gz", "", "mark", error="no", finished=2.0))
            write_shared_summary(theirs, asked)
        return known

    monkeypatch.setattr(BatchJournal, "of_this_batch", interleaved)
    assert write_shared_summary(ours, scans) == 2
    assert list(listed(tmp_path)) == ["a", "b"]


@pytest.mark.slow
def test_the_slurm_script_does_a_part(bundle: Path, scans: Path, repository: Path, tmp_path: Path) -> None:
    script, out = repository / "tools" / "slurm_segment.sh", tmp_path / "masks in Slurm"

    def task(**values: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        plain = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        command = ["bash", str(script), str(bundle), str(scans), str(out), "--device", "cpu"]
        return subprocess.run(command, env={**plain, "PATH": path, **values}, capture_output=True, text=True)

    asked = task()
    assert asked.returncode != 0 and "--array=1-N" in asked.stderr
    done = task(SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_TASK_COUNT="3")
    assert done.returncode == 1 and "scan_4.nii.gz" in done.stdout, done.stderr
    assert [path.name for path in out.glob("*.nii.gz")] == ["scan_1.nii.gz"]
    read_label(out / "scan_1.nii.gz")
    assert [path.name for path in out.glob("segmentation_journal*")] == ["segmentation_journal.2_of_3.jsonl"]
    usage = subprocess.run(["bash", str(script), "one"], capture_output=True, text=True)
    assert usage.returncode == 2 and "usage" in usage.stderr
