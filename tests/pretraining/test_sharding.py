import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medfm3d.cohorts.volume_store import VolumeStore
from medfm3d.pretraining import (
    PreparedVolumes,
    PretrainingCohort,
    PretrainingData,
    WindowDataset,
    prepared_entries,
    shard_cohort,
)
from medfm3d.volumes import VolumeError


@pytest.fixture(scope="module")
def store(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "store"
    shard_cohort(PretrainingCohort(scans), folder, volumes_per_shard=3)
    return folder


@pytest.fixture
def with_bad_scan(scans: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "with bad"
    shutil.copytree(scans, folder)
    whole = (folder / "scan_1.nii.gz").read_bytes()
    (folder / "scan_1.nii.gz").write_bytes(whole[: len(whole) // 2])
    return folder


def test_store_gives_the_very_windows_of_the_cache(scans: Path, store: Path, tmp_path: Path) -> None:
    cohort = PretrainingCohort(scans)
    cached = PreparedVolumes(cohort, cohort.files(), tmp_path)
    cached.prepare()
    stored = prepared_entries(PretrainingCohort(store), tmp_path)
    assert [Path(volume.source).name for volume in stored] == [f"scan_{n}.nii.gz" for n in range(4)]
    for volume, entry in zip(stored, cached.entries(), strict=True):
        assert torch.equal(volume[:, :, :, :], torch.load(entry, weights_only=True)["image"])
    one, other = (WindowDataset([entries], [1.0], (32, 16, 40), 5, 0) for entries in (stored, cached.entries()))
    assert all(torch.equal(one[number]["image"], other[number]["image"]) for number in range(12))


def test_training_data_take_a_store_beside_scans(scans: Path, store: Path, tmp_path: Path) -> None:
    data = PretrainingData([{"images": [store, scans / "scan_0.nii.gz"]}], tmp_path, window=16, validation_windows=0)
    data.prepare_data()
    data.setup("fit")
    assert len(data.training_set.entries[0]) == 5
    assert len(list(tmp_path.iterdir())) == 1  # the scan alone is cached


def test_manifest_counts_and_checksums(store: Path) -> None:
    manifest = json.loads((store / "store.json").read_text())
    assert manifest["complete"] and (manifest["shards"], manifest["volumes"], manifest["skipped"]) == (2, 4, 0)
    assert manifest["bytes"] == sum(file.stat().st_size for file in store.glob("*.b2"))
    VolumeStore(store).verify()


def test_a_broken_shard_is_named(store: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "copy")
    shard = copy / "shard_00001.b2"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(VolumeError, match=r"shard_00001\.b2: missing, or not what was stored"):
        VolumeStore(copy).verify()
    shard.write_bytes(b"")
    with pytest.raises(VolumeError, match=r"shard_00001\.b2: .*scan_3\.nii\.gz cannot be read"):
        VolumeStore(copy).volumes[3][:, :4, :4, :4]
    (copy / "shard_00001.json").unlink()
    with pytest.raises(VolumeError, match="lists 2 shards, but 1 are there"):
        VolumeStore(copy)


def test_a_bad_scan_ends_it_unless_it_may_be_skipped(with_bad_scan: Path, tmp_path: Path) -> None:
    cohort, folder = PretrainingCohort(with_bad_scan), tmp_path / "store"
    with pytest.raises(VolumeError, match=r"scan_1\.nii\.gz"):
        shard_cohort(cohort, folder, volumes_per_shard=1)
    with pytest.raises(VolumeError, match="was cut off"):
        VolumeStore(folder)
    assert [path.name for path in folder.glob("*.b2")] == ["shard_00000.b2"]
    before = (folder / "shard_00000.b2").stat().st_mtime_ns
    store = shard_cohort(cohort, folder, volumes_per_shard=4, skip_bad=True)
    assert (folder / "shard_00000.b2").stat().st_mtime_ns == before
    assert sorted(Path(volume.source).name for volume in store.volumes) == [f"scan_{n}.nii.gz" for n in (0, 2, 3)]
    (skipped,) = store.skipped
    assert skipped["source"].endswith("scan_1.nii.gz") and "scan_1.nii.gz" in skipped["error"]


def test_new_scans_are_added_and_changed_ones_refused(scans: Path, tmp_path: Path) -> None:
    folder, grown = tmp_path / "store", tmp_path / "grown"
    grown.mkdir()
    shutil.copy2(scans / "scan_2.nii.gz", grown)
    shard_cohort(PretrainingCohort(grown), folder)
    shutil.copy2(scans / "scan_0.nii.gz", grown)
    store = shard_cohort(PretrainingCohort(grown), folder)
    assert [Path(volume.source).name for volume in store.volumes] == ["scan_2.nii.gz", "scan_0.nii.gz"]
    shutil.copy(scans / "scan_1.nii.gz", grown / "scan_0.nii.gz")
    with pytest.raises(VolumeError, match=r"scan_0\.nii\.gz: has changed since it was stored"):
        shard_cohort(PretrainingCohort(grown), folder)


def test_stores_are_not_mixed_with_other_settings_or_files(scans: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="prepared with another preparation, spacing_mm"):
        shard_cohort(PretrainingCohort(scans, spacing_mm=2), store)
    with pytest.raises(VolumeError, match=r"was prepared with spacing_mm None, not \[2.0, 2.0, 2.0\]"):
        prepared_entries(PretrainingCohort(store, spacing_mm=2), tmp_path)
    with pytest.raises(VolumeError, match="was prepared with modality auto, not CT"):
        prepared_entries(PretrainingCohort(store, modality="CT"), tmp_path)
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(VolumeError, match="holds files, but no store"):
        shard_cohort(PretrainingCohort(scans), tmp_path)


def shard_slowly(scans: Path, folder: Path) -> None:
    shard_cohort(PretrainingCohort(scans), folder, volumes_per_shard=1, on_shard=lambda done, of: time.sleep(60))


def test_what_a_killed_run_left_is_used_and_tidied(scans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    process = multiprocessing.get_context("fork").Process(target=shard_slowly, args=(scans, folder))
    process.start()
    deadline = time.monotonic() + 120
    while not (folder / "shard_00000.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (folder / ".shard_00001.b2.1.partial").write_bytes(b"half")
    (folder / "shard_00001.b2").write_bytes(b"whole, but its list was not written")
    before = (folder / "shard_00000.b2").stat().st_mtime_ns
    store = shard_cohort(PretrainingCohort(scans), folder, volumes_per_shard=2, workers=1)
    assert (folder / "shard_00000.b2").stat().st_mtime_ns == before
    assert len({volume.source for volume in store.volumes}) == len(store.volumes) == 4
    assert not list(folder.glob(".*partial"))
    store.verify()


def test_a_scan_larger_than_a_chunk_comes_back_whole(tmp_path: Path) -> None:
    import nibabel as nib

    array = np.random.default_rng(0).integers(-1000, 1000, (70, 66, 130)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "scan.nii.gz")
    (volume,) = shard_cohort(PretrainingCohort(tmp_path / "scan.nii.gz", modality="CT"), tmp_path / "s").volumes
    whole = volume[:, :, :, :]
    assert volume.shape == (1, 70, 66, 130) == tuple(whole.shape)
    assert torch.equal(volume[:, 60:70, 1:66, 60:129], whole[:, 60:70, 1:66, 60:129])
    assert whole.float().std() > 0
