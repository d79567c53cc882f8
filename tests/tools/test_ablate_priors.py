"""The ablation of priors, over a bundle of a few steps."""

import json
from pathlib import Path

import ablate_priors
import pytest

from medfm3d.cli.segment import run_segmentation
from medfm3d.inference import BundleError, read_card, read_priors
from medfm3d.priors import PRIORS
from medfm3d.volumes import read_label


def test_a_bundle_trained_in_boxes_with_priors_says_so_and_starts_out_boxed(bundle: Path) -> None:
    card = read_card(bundle)
    assert card["training_priors"] == ["components", "volume"] and card["boxed"] is True
    assert json.loads((bundle / "configs" / "inference.json").read_text())["boxed"] is True
    assert json.loads((bundle / "configs" / "train.json").read_text())["training_priors"] == ["components", "volume"]
    assert set(read_priors(bundle).priors) == set(PRIORS)


def test_every_prior_has_its_row_and_the_support_set_is_left_out(
    bundle: Path, small_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ("--bundle", bundle, "--data", small_cohort, "--output", tmp_path, "--limit", 2, "--device", "cpu")
    result = ablate_priors.main([str(argument) for argument in arguments])
    assert result["cases"] == ["case_1", "case_3"] and result["support"] == ["case_0", "case_2"]
    priors = ["volume", "components", "location", "laterality", "adjacency", "topology"]
    assert list(result["rows"]) == ["none", *priors, "all on logits", "clean-up", "boxed", "everything"]
    assert json.loads((tmp_path / "ablation.json").read_text())["rows"].keys() == result["rows"].keys()
    table = (tmp_path / "ablation.md").read_text()
    assert table in capsys.readouterr().out and len(table.splitlines()) == 13
    assert result["rows"]["none"]["turned_voxels"] == 0 and result["rows"]["none"]["dice"] > 0.3
    # Organs without sides: laterality has nothing to say, so its masks are those of the row without priors.
    assert result["rows"]["laterality"]["turned_voxels"] == 0
    for name in ("case_1.nii.gz", "case_3.nii.gz"):
        plain = read_label(tmp_path / "none" / name).array
        assert (read_label(tmp_path / "laterality" / name).array == plain).all()
        if result["rows"]["location"]["turned_voxels"]:
            continue
        assert (read_label(tmp_path / "location" / name).array == plain).all()


def test_priors_that_a_bundle_has_not_are_refused_before_anything_is_run(
    bundle: Path, small_cohort: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="has no prior colour, only volume"):
        run_segmentation(bundle, small_cohort, tmp_path / "masks", logit_priors=["volume", "colour"], device="cpu")
    assert not (tmp_path / "masks").exists()


def test_without_cases_it_says_so(bundle: Path, small_cohort: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ablate_priors, "read_card", lambda path: {"support": [f"case_{n}" for n in range(6)]})
    with pytest.raises(SystemExit, match="no labelled case is left"):
        ablate_priors.main(["--bundle", str(bundle), "--data", str(small_cohort), "--output", str(tmp_path)])
