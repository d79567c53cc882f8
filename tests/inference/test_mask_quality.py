"""Uncertainty and predicted Dice: the figures behind them, and the model that was calibrated."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from medfm3d.inference import (
    AssessQualityd,
    PredictedDice,
    fit_dice_model,
    list_quality,
    organ_features,
)
from medfm3d.inference.assessed_labels import KeepAssessedLabels
from medfm3d.inference.predicted_dice import AUGMENTED, FEATURES, PLAIN
from medfm3d.inference.probabilities import SaveProbabilitiesd
from medfm3d.inference.uncertainty import volume_z
from medfm3d.priors import ComponentsPrior, PriorSet, VolumePrior
from medfm3d.volumes import Volume, check_same_grid, read_volume

SHAPE = (20, 22, 18)


def ball(radius: float, centre: tuple[int, int, int] = (10, 11, 9)) -> np.ndarray:
    grid = np.indices(SHAPE).astype(float)
    return ((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) < radius**2


def blurred(radius: float, sigma: float) -> np.ndarray:
    return gaussian_filter(ball(radius).astype(np.float32), sigma)


def assessed(*organs: np.ndarray, entropy: bool = False) -> tuple[np.ndarray, list[float]]:
    """Labels (and entropy) of organs' probabilities, taken in two parts as they pass by, and their soft Dice."""
    probabilities = torch.from_numpy(np.stack([1 - sum(organs), *organs]).astype(np.float32))
    keep = KeepAssessedLabels(len(probabilities), entropy)
    parts = [keep.reduce(part, resampled=True) for part in probabilities.split(7, dim=1)]
    return torch.cat(parts, dim=1).numpy(), json.loads(keep.notes()["organ_confidence"])


def soft_dice(organ: np.ndarray) -> float:
    return assessed(organ)[1][0]


def test_entropy_is_0_for_certain_and_1_for_no_idea() -> None:
    probabilities = np.zeros((4, 2, 2, 2), np.float32)
    probabilities[2] = 1
    probabilities[:, 0, 0, 0] = 0.25
    probabilities[:, 1, 1, 1] = (0.5, 0.5, 0, 0)
    labels, entropy = assessed(*probabilities[1:], entropy=True)[0] / np.reshape([1, 255], (2, 1, 1, 1))
    assert labels[0, 1, 0] == 2 and entropy[0, 0, 0] == pytest.approx(1)
    assert entropy[1, 1, 1] == pytest.approx(math.log(2) / math.log(4), abs=0.002) and entropy[0, 1, 0] == 0


def test_soft_dice_is_the_expected_dice_of_masks_drawn_from_the_probabilities() -> None:
    probability, rng = blurred(5, 1.5), np.random.default_rng(0)
    mask = probability > 0.5
    drawn = [rng.random(SHAPE) < np.where(probability >= 0.01, probability, 0) for _ in range(200)]
    dice = np.mean([2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for truth in drawn])
    assert soft_dice(probability) == pytest.approx(dice, abs=0.005)


def test_features_tell_a_sharp_mask_from_a_vague_one() -> None:
    assert soft_dice(blurred(5, 0.5)) > soft_dice(blurred(5, 2.0))
    assert soft_dice(ball(5).astype(np.float32)) == pytest.approx(1)
    assert soft_dice(np.full(SHAPE, 0.3, np.float32)) == 0
    small, large = (organ_features(blurred(radius, 0.5) > 0.5, 0.9) for radius in (2, 5))
    assert small["thinness"] > large["thinness"] and large["soft_dice"] == 0.9
    assert organ_features(np.zeros(SHAPE, bool), 0.9)["soft_dice"] == 0


def test_features_do_not_depend_on_how_much_is_around_the_organ() -> None:
    probability = np.maximum(blurred(5, 1.0), 0.002).astype(np.float32)
    larger = np.pad(probability, 15, constant_values=0.002)
    assert soft_dice(larger) == pytest.approx(soft_dice(probability))
    assert organ_features(larger > 0.5, 1) == organ_features(probability > 0.5, 1)


def fitted_priors() -> PriorSet:
    labels = [Volume(ball(radius).astype(np.uint8), np.eye(4)) for radius in (5.0, 5.2, 5.4)]
    return PriorSet([VolumePrior(), ComponentsPrior()]).fit(labels, {"organ": 1})


def test_volume_z_is_signed_and_silent_where_it_knows_nothing() -> None:
    prior = fitted_priors()["volume"]
    z = [volume_z(Volume(ball(radius), np.eye(4)), prior, "organ") for radius in (3.5, 5.2, 7.5)]
    assert z[0] < -1 and abs(z[1]) < 0.3 and z[2] > 1
    cut = volume_z(Volume(ball(3.5, (0, 11, 9)), np.eye(4)), prior, "organ")
    nothing = Volume(np.zeros(SHAPE, bool), np.eye(4))
    assert cut == volume_z(nothing, prior, "organ") == volume_z(nothing, None, "organ") == 0


def rows_and_dice(count: int, seed: int) -> tuple[list[dict[str, float]], np.ndarray]:
    rng = np.random.default_rng(seed)
    soft, spread = rng.uniform(0.3, 0.98, count), rng.uniform(0.05, 2, count)
    noise = rng.normal(0, 0.1, count)
    dice = expit(0.3 + 0.8 * np.log(soft / (1 - soft)) - 0.5 * np.log(spread) + noise)
    filler = {"edge_entropy": 0.5, "thinness": 0.4, "volume_z": 0.0, "voxels": 100}
    return [{**filler, "soft_dice": a, "spread": b} for a, b in zip(soft, spread, strict=True)], dice


def test_the_fit_finds_the_curve_that_made_the_data() -> None:
    rows, dice = rows_and_dice(300, 0)
    model = fit_dice_model(rows, dice, ("soft_dice", "spread"), ridge=0.01)
    new, truth = rows_and_dice(100, 1)
    predicted = np.array([model.predict(row) for row in new])
    assert np.abs(predicted - truth).mean() < 0.02 and np.corrcoef(predicted, truth)[0, 1] > 0.98
    assert model.weights[0] > 0 > model.weights[1]
    assert model.predict({**new[0], "voxels": 0}) == 0
    ends = fit_dice_model(rows, np.round(dice), ("soft_dice", "spread"))  # Dice of exactly 0 and 1
    assert np.isfinite(ends.weights).all()
    with pytest.raises(ValueError, match="too few"):
        fit_dice_model(rows[:3], dice[:3], ("soft_dice", "spread"))


def test_bundles_count_by_their_weight() -> None:
    rows, dice = rows_and_dice(60, 0)
    low = [*rows, *rows]
    target = [*dice, *np.zeros(60)]
    only_first = fit_dice_model(low, target, ("soft_dice",), case_weights=[1.0] * 60 + [1e-9] * 60)
    alone = fit_dice_model(rows, dice, ("soft_dice",))
    assert only_first.intercept == pytest.approx(alone.intercept, abs=1e-3)


def test_the_shipped_calibration_is_complete_and_says_where_it_comes_from(tmp_path: Path) -> None:
    shipped = PredictedDice.load()
    assert {name: model.features for name, model in shipped.models.items()} == FEATURES
    assert shipped.provenance["split"] == "development" and shipped.provenance["pairs"]
    for name in (PLAIN, AUGMENTED):
        assert 0.5 < shipped.provenance["reached"][name]["pearson_pooled"] <= 1
    row = {"voxels": 900, "soft_dice": 0.95, "spread": 0.3, "edge_entropy": 0.4, "thinness": 0.5, "volume_z": 0.2}
    good = shipped.predict(row)
    poor = shipped.predict({**row, "soft_dice": 0.6, "thinness": 1.5})
    assert 0 < poor < good < 1 and good > 0.7
    assert shipped.predict({**row, "agreement": 0.9}) != good  # another model: averaged probabilities are less sure
    path = tmp_path / "again.json"
    path.write_text(json.dumps(shipped.to_json()))
    assert PredictedDice.load(path).predict(row) == good
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"again\.json: holds no calibration"):
        PredictedDice.load(path)


def test_the_transform_writes_what_it_found(tmp_path: Path) -> None:
    fitted_priors().save(tmp_path / "priors.json")
    assess = AssessQualityd(
        "pred", ["organ"], tmp_path / "priors.json", PredictedDice.load(), tmp_path, ".nii.gz", save_uncertainty=True
    )
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    for name, sigma in (("vague", 2.0), ("sharp", 0.6), ("nothing", 0.0)):
        organ = blurred(5, sigma) if sigma else np.zeros(SHAPE, np.float32)
        labels, confidence = assessed(organ, entropy=True)
        meta = {"filename_or_obj": f"/somewhere/{name}.nii.gz", "organ_confidence": json.dumps(confidence)}
        data = {"pred": MetaTensor(torch.from_numpy(labels), affine=torch.from_numpy(affine), meta=meta)}
        assert assess(data)["pred"] is data["pred"]
    listed = list_quality(tmp_path)
    assert [quality["case"] for quality in listed] == ["nothing", "vague", "sharp"]
    assert listed[0]["predicted_dice"] == {"organ": 0.0} and listed[2]["mean_predicted_dice"] > 0.5
    assert [quality["case"] for quality in list_quality(tmp_path, ["sharp"])] == ["sharp"]
    uncertainty = read_volume(tmp_path / "vague_uncertainty.nii.gz")
    check_same_grid(uncertainty, Volume(np.zeros(SHAPE), affine))
    assert 0.9 < uncertainty.array.max() <= 1 and uncertainty.array.min() >= 0
    features = json.loads((tmp_path / "sharp_quality.json").read_text())["features"]["organ"]
    assert features["voxels"] == (blurred(5, 0.6) > 0.5).sum() and "agreement" not in features
    with pytest.raises(ValueError, match="without entropy"):
        assess({"pred": data["pred"][:1]})
    data["pred"].meta["tta_agreement"] = torch.tensor([0.25])
    assess(data)
    assert json.loads((tmp_path / "nothing_quality.json").read_text())["features"]["organ"]["agreement"] == 0.25
    del data["pred"].meta["organ_confidence"]
    with pytest.raises(ValueError, match="says nothing of its soft Dice"):
        assess(data)


def test_files_of_probabilities_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="files of one name"):
        SaveProbabilitiesd("pred", ["left lung", "left_lung"], tmp_path, ".nii.gz")
    affine = torch.eye(4, dtype=torch.float64)
    meta = {"original_affine": affine, "spatial_shape": np.array([4, 5, 6]), "filename_or_obj": "scan.nii.gz"}
    image = MetaTensor(torch.rand(1, 4, 5, 6), affine=affine, meta=meta)
    logits = MetaTensor(torch.randn(3, 4, 5, 6), affine=affine)
    SaveProbabilitiesd("pred", ["GTV/node", "печень"], tmp_path, ".nii.gz")({"image": image, "pred": logits})
    assert {path.name for path in tmp_path.iterdir()} == {
        *("scan_GTV_node_probability.nii.gz", "scan_печень_probability.nii.gz")
    }
