"""Evaluation of a folder: pairing, summaries, intervals, files."""

import csv
import json

import numpy as np
import pytest

from medfm3d.evaluation import Evaluation, OrganScore, evaluate_folder
from medfm3d.evaluation.intervals import mean_interval, mean_of_columns
from medfm3d.volumes import Volume, VolumeError, write_volume

ORGANS = {"liver": 1, "spleen": 2}


def write_mask(path, *, liver=4, spleen=3):
    array = np.zeros((16, 16, 16), np.uint8)
    array[1 : 1 + liver, 1:6, 1:6] = 1
    array[9 : 9 + spleen, 9:14, 9:14] = 2
    return write_volume(Volume(array, np.eye(4)), path)


@pytest.fixture
def folders(tmp_path):
    for number in range(4):
        write_mask(tmp_path / "labels" / f"case_{number}.nii.gz")
        write_mask(tmp_path / "masks" / f"case_{number}.nii.gz", liver=4 + number % 2, spleen=3 - number // 2)
    return tmp_path / "masks", tmp_path / "labels"


def score(case, organ, dice, volume=1.0, reference=1.0):
    hd95_mm = None if not dice else 1.0
    return OrganScore(case, organ, dice, hd95_mm, dice, volume, reference, volume - reference)


def test_summary_of_a_folder(folders):
    evaluation = evaluate_folder(*folders, ORGANS, progress=False)
    assert evaluation.cases == ("case_0", "case_1", "case_2", "case_3")
    liver = evaluation.summary()["liver"]
    dice = [1, 8 / 9, 1, 8 / 9]  # 4 of 4 or 5 layers
    assert liver.metrics["dice"].mean == pytest.approx(np.mean(dice))
    assert liver.metrics["dice"].median == pytest.approx(np.median(dice))
    assert liver.metrics["dice"].sd == pytest.approx(np.std(dice, ddof=1), rel=1e-5)
    low, high = liver.metrics["dice"].interval
    assert low < np.mean(dice) < high
    bias, spread = 0.0125, np.std([0, 0.025, 0, 0.025], ddof=1)
    assert liver.metrics["volume_error_ml"].mean == pytest.approx(bias)
    assert liver.volume_limits_ml == pytest.approx((bias - 1.96 * spread, bias + 1.96 * spread))
    spleen = evaluation.summary()["spleen"].metrics["dice"].mean
    assert evaluation.mean_dice == pytest.approx((np.mean(dice) + spleen) / 2)
    assert evaluation.case_dice()["case_1"] == pytest.approx((8 / 9 + 1) / 2)


def test_names_are_matched_whatever_the_file_type(folders):
    masks, labels = folders
    write_mask(masks / "case_9_0000.nrrd")
    write_mask(labels / "case_9.mha")
    write_mask(masks / "case_0_liver_probability.nii.gz")
    evaluation = evaluate_folder(masks, labels, ORGANS, progress=False)
    assert evaluation.cases[-1] == "case_9" and len(evaluation.cases) == 5


def test_a_label_without_a_mask_is_counted_and_a_mask_without_a_label_is_an_error(folders):
    masks, labels = folders
    (masks / "case_2.nii.gz").unlink()
    evaluation = evaluate_folder(masks, labels, ORGANS, progress=False)
    assert evaluation.unpredicted == ("case_2",) and "case_2" not in evaluation.cases
    write_mask(masks / "stray.nii.gz")
    with pytest.raises(VolumeError, match=r"stray\.nii\.gz without a label map"):
        evaluate_folder(masks, labels, ORGANS, progress=False)


def test_unusable_folders_are_named(folders, tmp_path):
    masks, labels = folders
    with pytest.raises(VolumeError, match="nowhere: no such folder"):
        evaluate_folder(tmp_path / "nowhere", labels, ORGANS, progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VolumeError, match="empty: holds no volume"):
        evaluate_folder(masks, tmp_path / "empty", ORGANS, progress=False)
    with pytest.raises(ValueError, match="no organ"):
        evaluate_folder(masks, labels, {}, progress=False)
    write_mask(labels / "case_1.nrrd")
    with pytest.raises(VolumeError, match="same case case_1"):
        evaluate_folder(masks, labels, ORGANS, progress=False)


def test_an_organ_that_was_not_outlined_is_not_scored(folders):
    evaluation = evaluate_folder(*folders, ORGANS, annotated={"case_0": ["liver"]}, progress=False)
    assert evaluation.summary()["liver"].n == 4
    assert evaluation.summary()["spleen"].n == 3
    assert [one.organ for one in evaluation.scores if one.case == "case_0"] == ["liver"]


def test_absent_organs_are_left_out_of_means_and_counted():
    scores = (
        score("a", "liver", 0.8),
        score("b", "liver", None, 0, 0),
        score("c", "liver", 0.0, 0, 2),
        score("a", "spleen", None, 0, 0),
    )
    evaluation = Evaluation(scores, ("liver", "spleen", "kidney"), 2.0, 0)
    liver = evaluation.summary()["liver"]
    assert (liver.n, liver.absent, liver.one_sided) == (2, 1, 1)
    assert liver.metrics["dice"].mean == pytest.approx(0.4)
    assert (liver.metrics["hd95_mm"].n, liver.metrics["hd95_mm"].mean) == (1, 1.0)
    for organ in ("spleen", "kidney"):
        nothing = evaluation.summary()[organ]
        assert nothing.n == 0 and nothing.metrics["dice"].mean is None and nothing.volume_limits_ml is None
    assert evaluation.mean_dice == pytest.approx(0.4)
    assert evaluation.case_dice() == {"a": 0.8, "b": None, "c": 0.0}


def test_one_case_has_no_interval():
    evaluation = Evaluation((score("a", "liver", 0.8),), ("liver",), 2.0, 0)
    dice = evaluation.summary()["liver"].metrics["dice"]
    assert (dice.n, dice.mean, dice.sd, dice.interval) == (1, 0.8, None, None)
    assert evaluation.mean_dice_interval() is None


def test_an_evaluation_of_nothing_has_no_mean():
    evaluation = Evaluation((score("a", "liver", None, 0, 0),), ("liver",), 2.0, 0)
    assert evaluation.mean_dice is None and evaluation.mean_dice_interval() is None


def test_interval_is_seeded():
    table = np.random.default_rng(0).normal(0.8, 0.05, (12, 1))
    assert mean_interval(table, 1) == mean_interval(table, 1)
    assert mean_interval(table, 1) != mean_interval(table, 2)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    tables = rng.normal(0.8, 0.05, (200, 25, 1))
    covered = [low <= 0.8 <= high for low, high in (mean_interval(table, 0) for table in tables)]
    assert 0.89 <= np.mean(covered) <= 0.99


def test_interval_over_organs_keeps_cases_together():
    # Organs that rise and fall together leave the mean less certain than independent ones.
    rng = np.random.default_rng(0)
    shared = np.repeat(rng.normal(0.8, 0.05, (30, 1)), 4, axis=1)
    independent = np.stack([rng.permutation(column) for column in shared.T], axis=1)
    assert np.ptp(mean_interval(shared, 0)) > 1.3 * np.ptp(mean_interval(independent, 0))
    with_gaps = shared.copy()
    with_gaps[0, 0] = with_gaps[5:, 3] = np.nan
    low, high = mean_interval(with_gaps, 0)
    assert low < mean_of_columns(with_gaps) < high


def test_json_and_csv(folders, tmp_path):
    evaluation = evaluate_folder(*folders, ORGANS, tolerance_mm=1.5, seed=7, progress=False)
    read = json.loads(json.dumps(evaluation.to_json()))
    assert (read["n"], read["tolerance_mm"], read["seed"]) == (4, 1.5, 7)
    assert read["organs"]["liver"]["metrics"]["dice"]["n"] == 4
    path = evaluation.to_csv(tmp_path / "new" / "scores.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["organ"]) for row in rows][:2] == [("case_0", "liver"), ("case_0", "spleen")]
    assert float(rows[2]["dice"]) == pytest.approx(8 / 9)
    assert [file.name for file in path.parent.iterdir()] == ["scores.csv"]


def test_real_outlines_shifted_by_a_voxel(real_data, tmp_path):
    from medfm3d.volumes import find_volumes, read_label

    labels = real_data / "hippocampus" / "labelsTr"
    for path in find_volumes(labels)[:4]:
        label = read_label(path)
        write_volume(Volume(np.roll(label.array, 1, axis=2), label.affine), tmp_path / path.name)
    evaluation = evaluate_folder(tmp_path, labels, {"anterior": 1, "posterior": 2}, progress=False)
    assert len(evaluation.unpredicted) == len(find_volumes(labels)) - 4
    assert 0.7 < evaluation.mean_dice < 0.95
    for summary in evaluation.summary().values():
        assert summary.metrics["surface_dice"].mean == pytest.approx(1, abs=1e-3)
        assert summary.metrics["volume_error_ml"].mean == pytest.approx(0)
