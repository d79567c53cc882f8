from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from medfm3d.pretraining import (
    PreparedVolumes,
    PretrainingCohort,
    PretrainingData,
    StepSampler,
    WindowDataset,
    random_window,
)
from medfm3d.volumes import VolumeError


def entries_of(folder: Path, count: int, value: float) -> list[Path]:
    folder.mkdir()
    for index in range(count):
        torch.save({"image": torch.full((1, 8, 8, 8), value + index, dtype=torch.float16)}, folder / f"{index}.pt")
    return sorted(folder.iterdir())


def test_prepared_volume_is_in_ras_with_the_cohorts_spacing(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(50, 10, (20, 24, 16)).astype(np.float32)
    array[:6] = 400  # the patient's right, in a file stored from right to left
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.0, 2.0, 1.0])), tmp_path / "scan.nii.gz")
    cohort = PretrainingCohort(tmp_path / "scan.nii.gz", spacing_mm=2.0, modality="MR")
    prepared = PreparedVolumes(cohort, cohort.files(), tmp_path / "cache")
    prepared.prepare()
    volume = torch.load(prepared.entries()[0], weights_only=True)["image"]
    assert volume.dtype == torch.float16 and type(volume) is torch.Tensor
    assert volume.shape == (1, 10, 12, 16)
    assert volume[0, -2:].min() > 1 > volume[0, :6].max()


def test_prepared_volumes_are_not_prepared_again(scans: Path, tmp_path: Path) -> None:
    cohort = PretrainingCohort(scans)
    first = PreparedVolumes(cohort, cohort.files(), tmp_path)
    first.prepare()
    times = [entry.stat().st_mtime_ns for entry in first.entries()]
    again = PreparedVolumes(cohort, cohort.files(), tmp_path)
    again.prepare()
    assert [entry.stat().st_mtime_ns for entry in again.entries()] == times
    assert len(list(tmp_path.iterdir())) == 4


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="nowhere: does not exist"):
        PretrainingCohort(tmp_path / "nowhere").files()
    with pytest.raises(VolumeError, match="holds no volume"):
        PretrainingCohort(tmp_path).files()


def test_window_lies_inside_and_shorter_axes_are_padded() -> None:
    volume = torch.arange(10 * 4 * 12, dtype=torch.float16).reshape(1, 10, 4, 12) + 5
    starts = set()
    for seed in range(30):
        window = random_window(volume, (6, 8, 12), np.random.default_rng(seed))
        assert window.shape == (1, 6, 8, 12) and window.dtype == torch.float32
        inside = [
            row for row in range(8) if window[0, 0, row, 0] != window.min() or window[0, 0, row, 1] > window.min()
        ]
        assert len(inside) == 4
        starts.add(inside[0])
        assert torch.isin(window, volume.float()).all()
    assert starts == {0, 1, 2, 3, 4}


def test_windows_follow_from_seed_and_number(tmp_path: Path) -> None:
    torch.save({"image": torch.randn(1, 20, 20, 20).half()}, tmp_path / "a.pt")

    def windows(seed: int, stream: int = 0) -> WindowDataset:
        return WindowDataset([[tmp_path / "a.pt"]], [1.0], (8, 8, 8), seed, stream)

    first = windows(1)[7]["image"]
    assert torch.equal(first, windows(1)[7]["image"])
    for other in (windows(1)[8], windows(2)[7], windows(1, stream=1)[7]):
        assert not torch.equal(first, other["image"])


def test_cohorts_are_mixed_by_weight_whatever_their_size(tmp_path: Path) -> None:
    entries = [entries_of(tmp_path / "few", 1, 0.0), entries_of(tmp_path / "many", 9, 100.0)]
    dataset = WindowDataset(entries, [3.0, 1.0], (8, 8, 8), 0, 0)
    drawn = Counter(dataset[number]["image"].max().item() >= 100 for number in range(400))
    assert drawn[False] / 400 == pytest.approx(0.75, abs=0.07)


def test_processes_share_batches_and_resumed_ones_go_on() -> None:
    epochs = [[list(StepSampler(2, 3, lambda: 0, rank, 2)) for rank in range(2)]]
    epochs += [[list(StepSampler(2, 3, lambda: 3, rank, 2)) for rank in range(2)]]
    assert epochs[0] == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]
    assert sorted(number for epoch in epochs for part in epoch for number in part) == list(range(24))


def test_held_out_volumes_are_not_trained_on(scans: Path, tmp_path: Path) -> None:
    data = PretrainingData([{"images": scans}], tmp_path, window=(16, 16, 16), validation_fraction=0.25, seed=3)
    data.prepare_data()
    data.setup("fit")
    training, validation = data.training_set.entries[0], data.validation_set.entries[0]
    assert len(training) == 3 and len(validation) == 1
    assert not set(training) & set(validation)
    data.trainer = SimpleNamespace(
        world_size=1, global_rank=0, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )
    first, again = (list(data.val_dataloader()) for _ in range(2))
    assert len(first) == 8
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, again, strict=True))


def test_a_single_volume_cannot_be_held_out(scans: Path, tmp_path: Path) -> None:
    one = [{"images": scans / "scan_0.nii.gz"}]
    data = PretrainingData(one, tmp_path)
    with pytest.raises(VolumeError, match="single volume cannot be split"):
        data.setup("fit")
    alone = PretrainingData(one, tmp_path, validation_windows=0)
    alone.setup("fit")
    assert alone.val_dataloader() == []


def test_decathlon_folder_gives_its_images(real_data: Path) -> None:
    files = PretrainingCohort(real_data / "hippocampus").files()
    assert len(files) > 100
    assert {file.parent.name for file in files} == {"imagesTr"}
