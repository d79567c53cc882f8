"""`medfm3d segment --engine ray`: the same masks as the local engine's, also when workers are lost."""

import csv
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from medfm3d.cli.segment import Engine, run_segmentation
from medfm3d.inference import BatchJournal, BundleError, WorkerShare, segment_on_ray, share_machines
from medfm3d.inference.batch_journal import JOURNAL
from medfm3d.volumes import read_label


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of this machine, small and quiet, whose workers find the modules beside this file."""
    ray = pytest.importorskip("ray")
    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(
            "local",
            num_cpus=2,
            num_gpus=0,
            object_store_memory=80_000_000,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env=environment,
        )
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # each worker that starts loads torch and MONAI, which takes a minute on a busy machine
def test_masks_equal_those_of_the_local_engine_though_workers_are_killed(
    cluster: None, bundle: Path, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        run_segmentation.__globals__, "segment_on_ray", partial(segment_on_ray, attempts=2)
    )  # fewer workers to start
    scans = tmp_path / "scans"
    scans.mkdir()
    originals = sorted((small_cohort / "imagesTr").glob("*.nii.gz"))
    for number in range(9):
        (scans / f"scan_{number}.nii.gz").symlink_to(originals[number % len(originals)])
    (scans / "scan_7.nii.gz").unlink()
    (scans / "scan_7.nii.gz").write_bytes(b"\x1f\x8b\x08\x00")
    local = run_segmentation(bundle, scans, tmp_path / "local", device="cpu")

    # One scan kills its worker once, another one every time.
    tally = tmp_path / "tally"
    tally.mkdir()
    deaths = {"scan_1.nii.gz": 1, "scan_4.nii.gz": 99}
    target = "mortal_inferer.MortalInferer"
    out = tmp_path / "ray"
    mortal = {"_target_": target, "inferer": "@refined", "deaths": deaths, "tally": str(tally), "masks": str(out)}
    options = {"engine": Engine.RAY, "workers": 2, "device": "cpu"}
    result = run_segmentation(bundle, scans, out, config={"inferer": mortal}, **options)

    died = [path.name.rsplit(".", 1)[0] for path in tally.iterdir()]
    assert died.count("scan_1.nii.gz") == 1 and died.count("scan_4.nii.gz") in (1, 2)
    assert list(result["failed"]) == [str(scans / f"scan_{number}.nii.gz") for number in (4, 7)]
    lost, unreadable = result["failed"].values()
    assert "scan_4.nii.gz: its worker was lost 2 times" in lost
    assert unreadable == local["failed"][str(scans / "scan_7.nii.gz")]
    assert sorted(path.name for path in out.glob("*.nii.gz")) == [f"scan_{n}.nii.gz" for n in (0, 1, 2, 3, 5, 6, 8)]
    for mask in out.glob("*.nii.gz"):
        ours, theirs = read_label(mask), read_label(tmp_path / "local" / mask.name)
        np.testing.assert_array_equal(ours.array, theirs.array)
        np.testing.assert_array_equal(ours.affine, theirs.affine)
    # The same records in one journal, by the driver, whatever the order; and nothing left lying about.
    assert [path.name for path in out.glob("segmentation_journal*")] == [JOURNAL]
    records = {record.scan: record for record in BatchJournal(out, "").records()}
    assert len(records) == 9
    for case in local["cases"]:
        if Path(case["scan"]).name not in deaths:
            assert records[case["scan"]].volumes_ml == case["volumes_ml"]
    rows = list(csv.DictReader((out / "summary.csv").open(newline="")))
    assert [row["case"] for row in rows] == [f"scan_{n}" for n in range(9)]
    assert len(json.loads((out / "summary.json").read_text())) == 9
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_worker_that_cannot_load_the_bundle_says_why(
    cluster: None, bundle: Path, small_cohort: Path, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="no_such_module"):
        run_segmentation(
            bundle,
            small_cohort / "imagesTr",
            tmp_path / "masks",
            config={"inferer": "$__import__('no_such_module')"},
            engine=Engine.RAY,
            workers=1,
            device="cpu",
        )
    assert not list((tmp_path / "masks").glob("*.nii.gz"))


def test_without_ray_it_says_what_to_install(
    medfm3d, bundle: Path, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    scans = small_cohort / "imagesTr"
    words = ("segment", "--bundle", bundle, "--input", scans, "--output", tmp_path / "masks", "--engine", "ray")
    code, said = medfm3d(*words)
    assert code == 1 and 'pip install "medfm3d[ray]"' in said and "Traceback" not in said


def test_an_address_without_a_cluster_is_named(
    bundle: Path, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")

    def nobody_there(*arguments: object, **options: object) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", nobody_there)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    with pytest.raises(BundleError, match=r"no cluster at RAY_ADDRESS=10\.0\.0\.7:6379"):
        run_segmentation(bundle, small_cohort / "imagesTr", tmp_path / "masks", engine=Engine.RAY)


def test_workers_share_cores_and_gpus() -> None:
    assert share_machines([(8, 0)], 2, "auto") == WorkerShare(2, 4, 0)
    assert share_machines([(4, 0), (4, 0)], 3, "cpu") == WorkerShare(3, 2, 0)
    assert share_machines([(16, 0), (8, 0)], None, "auto") == WorkerShare(2, 8, 0)
    assert share_machines([(16, 2), (8, 1)], None, "auto") == WorkerShare(3, 8, 1)
    assert share_machines([(16, 2), (64, 0)], 1, "cuda") == WorkerShare(1, 16, 1)
    assert share_machines([(16, 2)], 4, "cpu") == WorkerShare(4, 4, 0)
    assert share_machines([(16, 2)], None, "auto").device == "cuda"
    for machines, workers, device, word in (
        ([(4, 0)], 5, "cpu", "4 CPU cores"),
        ([(16, 2)], 3, "auto", "2 GPUs"),
        ([(16, 0)], 1, "cuda", "no GPU"),
        ([(16, 2)], 1, "cuda:1", "by itself"),
    ):
        with pytest.raises(ValueError, match=word):
            share_machines(machines, workers, device)
