"""`medfm3d segment` over many scans: bad ones among them, interruptions, full disks."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medfm3d.cli.segment import run_segmentation
from medfm3d.inference import BatchJournal, BatchStopped, run_workflow
from medfm3d.inference.batch_journal import JOURNAL
from medfm3d.volumes import VolumeError, read_label


def scans_in(folder: Path, small_cohort: Path, count: int) -> list[Path]:
    """Links to the scans of the small cohort, again and again under new names."""
    folder.mkdir(parents=True)
    originals = sorted((small_cohort / "imagesTr").glob("*.nii.gz"))
    made = [folder / f"scan_{number:02}.nii.gz" for number in range(count)]
    for number, link in enumerate(made):
        link.symlink_to(originals[number % len(originals)])
    return made


def test_masks_are_those_of_the_workflow(bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    result = run_segmentation(bundle, small_cohort / "imagesTr", tmp_path / "ours", device="cpu")
    values = {"dataset_dir": str(small_cohort), "output_dir": str(tmp_path / "workflow"), "device": torch.device("cpu")}
    run_workflow(bundle, "inference", values)
    for mask in map(Path, result["masks"]):
        ours, theirs = read_label(mask), read_label(tmp_path / "workflow" / mask.name)
        np.testing.assert_array_equal(ours.array, theirs.array)
        np.testing.assert_allclose(ours.affine, theirs.affine)
    assert len(result["masks"]) == 6


def test_a_bad_scan_is_reported_and_the_rest_go_on(medfm3d, bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    scans = scans_in(tmp_path / "scans", small_cohort, 4)
    scans[1].unlink()
    scans[1].write_bytes(b"\x1f\x8b\x08\x00")
    out = tmp_path / "masks"
    code, said = medfm3d("segment", "--bundle", bundle, "--input", tmp_path / "scans", "--output", out)
    assert code == 1 and f"failed {scans[1]}" in said and "3 masks" in said
    assert sorted(path.name for path in out.glob("*.nii.gz")) == [scans[n].name for n in (0, 2, 3)]
    with (out / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [f"scan_0{n}" for n in range(4)]
    assert "scan_01.nii.gz" in rows[1]["error"] and not rows[1]["mask"] and not rows[0]["error"]
    mask = read_label(out / "scan_00.nii.gz")
    voxel_ml = np.prod(mask.spacing_mm) / 1000
    assert float(rows[0]["cube_ml"]) == pytest.approx((mask.array == 2).sum() * voxel_ml, rel=1e-3)
    assert all(float(rows[0][f"{step}_s"]) > 0 for step in ("read", "infer", "write"))
    listed = json.loads((out / "summary.json").read_text())
    assert [case["case"] for case in listed] == [row["case"] for row in rows]

    # Mended and called again, only what is lacking is done.
    scans[1].unlink()
    scans[1].symlink_to(scans[0].resolve())
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    code, said = medfm3d("segment", "--bundle", bundle, "--input", tmp_path / "scans", "--output", out)
    assert code == 0 and "4 masks" in said and "3 of them from before" in said
    assert all((out / name).stat().st_mtime_ns == then for name, then in times.items())


def test_masks_are_made_anew_when_anything_they_depend_on_has_changed(
    bundle: Path, small_cohort: Path, tmp_path: Path
) -> None:
    scans, out = scans_in(tmp_path / "scans", small_cohort, 2), tmp_path / "masks"

    def kept(**options: object) -> int:
        return run_segmentation(bundle, tmp_path / "scans", out, device="cpu", **options)["resumed"]

    assert [kept(), kept(), kept(again=True), kept()] == [0, 2, 0, 2]
    assert kept(apply_priors=True) == 0
    assert kept() == 0
    (out / scans[0].name).unlink()
    assert kept() == 1
    os.utime(scans[1].resolve())
    assert kept() == 1
    # A line that was cut off counts as none, and the next one starts a line of its own.
    journal = out / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-9])
    assert kept() == 1 and kept() == 2


def test_what_segment_has_not_made_is_not_replaced(bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    scans, out = scans_in(tmp_path / "scans", small_cohort, 2), tmp_path / "outlines"
    out.mkdir()
    outline = out / scans[1].name
    outline.write_bytes((small_cohort / "labelsTr" / "case_1.nii.gz").read_bytes())
    drawn = outline.read_bytes()
    with pytest.raises(
        VolumeError, match=r"outlines/scan_01.nii.gz: is no mask that segment has made, and the mask of"
    ):
        run_segmentation(bundle, tmp_path / "scans", out, device="cpu")
    assert outline.read_bytes() == drawn and sorted(path.name for path in out.iterdir()) == [outline.name]
    assert len(run_segmentation(bundle, tmp_path / "scans", out, again=True, device="cpu")["masks"]) == 2
    made = outline.read_bytes()
    assert made != drawn

    # Corrected by hand, a mask is kept for what it was made with, and not replaced by what another bundle would say.
    outline.write_bytes(drawn)
    assert run_segmentation(bundle, tmp_path / "scans", out, device="cpu")["resumed"] == 2
    with pytest.raises(VolumeError, match=r"scan_01.nii.gz: has changed since segment made it"):
        run_segmentation(bundle, tmp_path / "scans", out, apply_priors=True, device="cpu")
    assert outline.read_bytes() == drawn
    # Nothing is lost by a file without content, which a full disk or a power cut may have left.
    outline.write_bytes(b"")
    assert run_segmentation(bundle, tmp_path / "scans", out, device="cpu")["resumed"] == 1
    assert outline.read_bytes() == made


def test_scans_of_one_name_in_turn_do_not_take_each_others_masks(
    bundle: Path, small_cohort: Path, tmp_path: Path
) -> None:
    (first,), out = scans_in(tmp_path / "a", small_cohort, 1), tmp_path / "masks"
    (tmp_path / "b").mkdir()
    second = tmp_path / "b" / first.name
    second.symlink_to(small_cohort / "imagesTr" / "case_3.nii.gz")
    run_segmentation(bundle, first, out, device="cpu")
    mask = (out / first.name).read_bytes()
    with pytest.raises(VolumeError, match=rf"{first.name}: is the mask of {first}, and the mask of {second} would"):
        run_segmentation(bundle, second, out, device="cpu")
    run_segmentation(bundle, second, out, again=True, device="cpu")
    assert (out / first.name).read_bytes() != mask
    with pytest.raises(VolumeError, match=rf"is the mask of {second}"):
        run_segmentation(bundle, first, out, device="cpu")
    second.unlink()  # where the other scan is gone, nobody misses its mask
    assert run_segmentation(bundle, first, out, device="cpu")["resumed"] == 0
    assert (out / first.name).read_bytes() == mask


def test_a_killed_batch_goes_on_where_it_was(bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    scans, out = scans_in(tmp_path / "scans", small_cohort, 30), tmp_path / "masks"
    words = ["segment", "--bundle", bundle, "--input", tmp_path / "scans", "--output", out, "--device", "cpu"]
    command = [str(Path(sys.executable).with_name("medfm3d")), *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = BatchJournal(out, "")
    deadline = time.monotonic() + 300
    while len(journal.records()) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(journal.records())
    assert 3 <= done < len(scans), "killed too early or too late for this test"
    for mask in out.glob("*.nii.gz"):
        read_label(mask)  # whole
    result = run_segmentation(bundle, tmp_path / "scans", out, device="cpu")
    assert result["resumed"] == done and len(result["masks"]) == len(scans) and not result["failed"]
    masks = {path.name: read_label(path).array for path in out.glob("*.nii.gz")}
    assert sorted(masks) == [scan.name for scan in scans]
    for number, scan in enumerate(scans[6:], 6):
        np.testing.assert_array_equal(masks[scan.name], masks[scans[number % 6].name])


def test_a_full_disk_stops_the_batch_and_loses_nothing(
    bundle: Path, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, out = scans_in(tmp_path / "scans", small_cohort, 4), tmp_path / "masks"
    from medfm3d.volumes import monai_io

    write, written = monai_io.write_volume, []

    def full_after_two(volume: object, path: Path) -> Path:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return write(volume, path)

    monkeypatch.setattr(monai_io, "write_volume", full_after_two)
    with pytest.raises(BatchStopped, match=r"scan_02\.nii\.gz: its mask cannot be written .*No space left"):
        run_segmentation(bundle, tmp_path / "scans", out, device="cpu")
    monkeypatch.setattr(monai_io, "write_volume", write)
    result = run_segmentation(bundle, tmp_path / "scans", out, device="cpu")
    assert result["resumed"] == 2 and len(result["masks"]) == len(scans)


def test_scans_of_one_name_are_refused_before_anything_is_done(
    bundle: Path, small_cohort: Path, tmp_path: Path
) -> None:
    first, second = (scans_in(tmp_path / name, small_cohort, 1)[0] for name in ("a", "b"))
    with pytest.raises(VolumeError, match="distinct names"):
        run_segmentation(bundle, tmp_path, tmp_path / "masks", inputs=[first, second], device="cpu")
    assert not (tmp_path / "masks").exists()
