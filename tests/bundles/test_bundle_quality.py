"""Test-time augmentation, uncertainty and predicted Dice of an adapted bundle, as users get them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medfm3d.cli.evaluate import run_report
from medfm3d.cli.segment import run_segmentation
from medfm3d.cohorts import read_cohort
from medfm3d.evaluation import evaluate_folder, list_predictions
from medfm3d.inference import BundleError, list_quality
from medfm3d.volumes import Volume, check_same_grid, read_label, read_volume, write_volume

ORGANS = {"cube": 2, "ball": 5}


def test_bundle_run_writes_quality_and_uncertainty(
    adapted: Path, small_cohort: Path, tmp_path: Path, run_config
) -> None:
    output = tmp_path / "masks"
    values = {"dataset_dir": small_cohort / "imagesTr", "output_dir": output, "device": "cpu"}
    run_config(adapted, "inference", tmp_path, **values, tta=2, save_uncertainty=True)
    names = read_cohort(small_cohort).names
    assert sorted(list_predictions(output)) == sorted(names)  # uncertainty is no mask
    assert {quality["case"] for quality in list_quality(output)} == set(names)
    for case in read_cohort(small_cohort):
        quality = json.loads((output / f"{case.name}_quality.json").read_text())
        assert set(quality["predicted_dice"]) == {"cube", "ball"}
        mask = read_label(output / case.image.name)
        for organ, number in ORGANS.items():
            features = quality["features"][organ]
            assert features["voxels"] == (mask.array == number).sum()
            assert 0 < features["agreement"] <= 1 and 0 <= quality["predicted_dice"][organ] <= 1
        uncertainty = read_volume(output / f"{case.name}_uncertainty.nii.gz")
        check_same_grid(read_volume(case.image), uncertainty)
        assert uncertainty.array.min() >= 0 and 0.1 < uncertainty.array.max() <= 1


def test_a_ruined_scan_is_first_in_line(adapted: Path, small_cohort: Path, tmp_path: Path) -> None:
    """A scan that is drowned in noise is predicted worst; the report says so, and how rightly."""
    scans, labels = tmp_path / "scans", small_cohort / "labelsTr"
    shutil.copytree(small_cohort / "imagesTr", scans)
    ruined = read_volume(scans / "case_3.nii.gz")
    noise = np.random.default_rng(0).normal(0, 150, ruined.shape)
    write_volume(Volume((ruined.array + noise).astype(np.float32), ruined.affine), scans / "case_3.nii.gz")
    masks = tmp_path / "masks"
    result = run_segmentation(adapted, scans, masks, device="cpu")
    assert len(result["quality"]) == 6 and result["quality"][0]["case"] == "case_3"
    assert not list(masks.glob("*_uncertainty*"))
    evaluation = evaluate_folder(masks, labels, ORGANS, progress=False)
    report = run_report(
        masks, scans, ORGANS, tmp_path / "report.html", labels=labels, evaluation=evaluation, bundle=adapted
    )
    assert report["annotate_next"][0] == "case_3" and len(report["annotate_next"]) == 6
    page = (tmp_path / "report.html").read_text()
    assert "What to annotate next" in page and "Predicted and true Dice" in page and "Pearson" in page
    again = run_segmentation(adapted, scans / "case_0.nii.gz", masks, device="cpu")
    assert [quality["case"] for quality in again["quality"]] == ["case_0"]  # of this run alone


def test_a_bundle_of_an_earlier_version_says_that_it_cannot(adapted: Path, small_cohort: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(adapted, old)
    config = json.loads((old / "configs" / "inference.json").read_text())
    del config["tta"]
    (old / "configs" / "inference.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="knows no tta"):
        run_segmentation(old, small_cohort / "imagesTr", tmp_path / "masks", tta=4, device="cpu")
    assert not (tmp_path / "masks").exists()
