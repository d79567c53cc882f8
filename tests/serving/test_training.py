"""What the Train button does, without a server."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from medfm3d.cohorts import Cohort, read_cohort
from medfm3d.inference import BundleError
from medfm3d.serving import DrawnScan, ServedBundle, fresh_bundle, train_bundle
from medfm3d.volumes import Volume, VolumeError, read_label, write_volume

ORGANS = {"cube": 2, "ball": 5}


@pytest.fixture(scope="module")
def cohort(small_cohort: Path) -> Cohort:
    return read_cohort(small_cohort)


@pytest.fixture
def bundle(tmp_path: Path) -> ServedBundle:
    return fresh_bundle(tmp_path / "bundles" / "mine", ORGANS)


def drawn(cohort: Cohort, *numbers: int) -> list[DrawnScan]:
    return [DrawnScan(case.name, case.image, case.label) for case in (cohort.cases[number] for number in numbers)]


def weights(bundle: ServedBundle) -> dict[str, torch.Tensor]:
    return torch.load(bundle.path / "models" / "model.pt", weights_only=True)


@pytest.mark.slow
def test_equal_labels_give_equal_models_and_prepared_scans_are_kept(
    cohort: Cohort, bundle: ServedBundle, tmp_path: Path
) -> None:
    cache, said, steps = tmp_path / "cache", [], []
    first = train_bundle(bundle, drawn(cohort, 0, 2), steps=4, device="cpu", cache_dir=cache, say=said.append,
                         on_progress=steps.append)  # fmt: skip
    assert first["support"] == ["case_0", "case_2"] and first["kept"] is None and bundle.trained
    assert [progress.step for progress in steps] == [1, 2, 3, 4] and steps[-1].steps == 4
    before = weights(bundle)
    entries = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(entries) == 2
    again = train_bundle(bundle, drawn(cohort, 2, 0), steps=4, device="cpu", cache_dir=cache, say=said.append)
    assert all(torch.equal(before[name], after) for name, after in weights(bundle).items())
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == entries  # read, not made anew
    kept = ServedBundle("0001", Path(again["kept"]))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(kept).items())
    assert "training mine on 2 scans: case_0, case_2" in said
    only_one = train_bundle(bundle, drawn(cohort, 0), steps=1, device="cpu", say=said.append)
    assert "made from 2 scans, the new one is from 1" in only_one["remarks"][0]


def test_failures_leave_a_fresh_bundle_fresh(cohort: Cohort, bundle: ServedBundle, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="there is no saved label; draw them all in one scan and press Submit Label"):
        train_bundle(bundle, [], steps=1)
    label = read_label(cohort.cases[0].label)
    only_cube = Volume(np.where(label.array == 2, 2, 0).astype(np.uint8), label.affine)
    part = DrawnScan("part", cohort.cases[0].image, write_volume(only_cube, tmp_path / "part.nii.gz"))
    said = []
    with pytest.raises(VolumeError, match="part: left out, since ball is not drawn in it"):
        train_bundle(bundle, [part], steps=1, say=said.append)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(cohort.cases[0].label.read_bytes()[:200])
    with pytest.raises(VolumeError, match=r"broken.nii.gz"):
        train_bundle(bundle, [DrawnScan("broken", cohort.cases[0].image, broken)], steps=1)
    with FileLock(bundle.path.with_name(".mine.training.lock")), pytest.raises(BundleError, match="trained already"):
        train_bundle(bundle, drawn(cohort, 0), steps=1)
    assert not bundle.trained and sorted(path.name for path in bundle.path.iterdir()) == ["organs.json"]
    assert not bundle.path.with_name(".mine.new").exists()


def test_training_ends_when_its_server_ended_before_it_began(
    cohort: Cohort, bundle: ServedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDFM3D_SERVE_PROCESS", str(os.getppid()))
    train_bundle(bundle, drawn(cohort, 0), steps=1, device="cpu")
    before = weights(bundle)
    monkeypatch.setenv("MEDFM3D_SERVE_PROCESS", str(os.getpid()))  # that of some process which is not the parent
    with pytest.raises(RuntimeError) as raised:  # as MONAI's workflows pass errors on
        train_bundle(bundle, drawn(cohort, 0, 2), steps=2, device="cpu")
    assert isinstance(raised.value.__cause__, BundleError) and "the server has ended" in str(raised.value.__cause__)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(bundle).items())


def test_training_that_breaks_off_leaves_the_bundle(
    cohort: Cohort, bundle: ServedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*arguments: object) -> None:
        shutil.rmtree(bundle.path.with_name(".mine.new"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medfm3d.serving.training._adapt", full_disk)
    with pytest.raises(OSError, match="No space left"):
        train_bundle(bundle, drawn(cohort, 0), steps=1, say=lambda text: None)
    assert not bundle.trained and not bundle.path.with_name(".mine.new").exists()
