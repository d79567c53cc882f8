"""The few-shot bundle, run as users run it."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from medfm3d.adaptation import choose_support
from medfm3d.cohorts import read_cohort
from medfm3d.inference import (
    BundleError,
    list_remarks,
    read_card,
    read_plan,
    read_priors,
    run_workflow,
)
from medfm3d.segmentation import Segmenter
from medfm3d.volumes import VolumeError, check_same_grid, output_name, read_label, read_volume, reorient, write_volume
from medfm3d.volumes.errors import causes


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def segment(bundle: Path, inputs: list[Path], output: Path, **overrides: object) -> list[Path]:
    values = {"datalist": [str(path) for path in inputs], "output_dir": str(output), "device": torch.device("cpu")}
    workflow = run_workflow(bundle, "inference", {**values, **overrides})
    return workflow.parser.get_parsed_content("postprocessing").transforms[-1].written


def test_adaptation_writes_a_complete_bundle(adapted: Path, small_cohort: Path) -> None:
    card = read_card(adapted)
    assert card["name"] == "my bundle" and card["method"] == "decoder" and card["iterations"] == 80
    assert len(card["support"]) == 3 and set(card["support"]) <= set(read_cohort(small_cohort).names)
    assert read_plan(adapted).organs == {"cube": 2, "ball": 5}
    assert read_priors(adapted)["volume"].organs_["cube"].cases == 3
    for name in ("LICENSE", "docs/README.md", "configs/train.json", "configs/evaluate.json", "configs/metadata.json"):
        assert (adapted / name).stat().st_size > 0
    assert not [path for path in adapted.parent.iterdir() if path.name.startswith(".")]
    state = torch.load(adapted / "models" / "model.pt", weights_only=True)
    network = Segmenter(["cube", "ball"])
    network.load_state_dict(state.get("model", state))


def test_inference_from_a_shell_in_any_directory(adapted: Path, small_cohort: Path, tmp_path: Path, run_config) -> None:
    output = tmp_path / "masks here"
    run_config(adapted, "inference", tmp_path, dataset_dir=small_cohort, output_dir=output, device="cpu")
    cohort = read_cohort(small_cohort)
    scores = []
    for case in cohort:
        mask, label = read_label(output / case.image.name, allowed_ids=[2, 5]), read_label(case.label)
        check_same_grid(label, mask)
        if case.name not in read_card(adapted)["support"]:
            scores += [dice(mask.array == number, label.array == number) for number in (2, 5)]
    assert len(scores) == 6 and np.mean(scores) > 0.8, scores


def test_evaluation_from_a_shell_scores_what_inference_writes(
    adapted: Path, small_cohort: Path, tmp_path: Path, run_config
) -> None:
    output = tmp_path / "out"
    # One of the scored cases has only one organ outlined, and the mask finds both.
    data = tmp_path / "cohort"
    shutil.copytree(small_cohort, data)
    content = json.loads((data / "dataset.json").read_text())
    support = read_card(adapted)["support"]
    part = next(entry for entry in content["training"] if output_name(Path(entry["image"])) not in support)
    part["annotated"] = ["ball"]
    (data / "dataset.json").write_text(json.dumps(content))
    run_config(adapted, ["inference", "evaluate"], tmp_path, dataset_dir=data, output_dir=output, device="cpu")
    result = json.loads((output / "evaluation" / "evaluation.json").read_text())
    cases = {case.name: case for case in read_cohort(data).without(support)}
    scored = [(score["case"], score["organ"]) for score in result["scores"]]
    expected = [(name, organ) for name, case in cases.items() for organ in ("cube", "ball") if case.outlines(organ)]
    assert sorted(scored) == sorted(expected) and len(scored) == 5
    for score in result["scores"]:
        number = {"cube": 2, "ball": 5}[score["organ"]]
        case = cases[score["case"]]
        mask, label = read_label(output / case.image.name), read_label(case.label)
        assert score["dice"] == pytest.approx(dice(mask.array == number, label.array == number))
    assert result["mean_dice"] > 0.8
    assert len((output / "evaluation" / "scores.csv").read_text().splitlines()) == 1 + 5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": {"0": "background", "2": "ball", "5": "cube"}}, "has cube=5, ball=2, not"),
        ({"training": "support alone"}, "no case with cube or ball outlined beside the support set"),
        ({"shift": True}, "from its image"),
    ],
)
def test_evaluation_refuses_what_it_cannot_score(
    adapted: Path, small_cohort: Path, tmp_path: Path, change: dict, told: str
) -> None:
    data = tmp_path / "cohort"
    shutil.copytree(small_cohort, data)
    content = json.loads((data / "dataset.json").read_text())
    support = read_card(adapted)["support"]
    if "labels" in change:
        content |= change
    elif "training" in change:
        content["training"] = [e for e in content["training"] if output_name(Path(e["image"])) in support]
    else:  # a label of the same shape that lies elsewhere
        case = next(case for case in read_cohort(data) if case.name not in support)
        label = read_label(case.label)
        moved = label.affine.copy()
        moved[:3, 3] += 30
        write_volume(type(label)(label.array, moved), case.label)
    (data / "dataset.json").write_text(json.dumps(content))
    overrides = {"dataset_dir": str(data), "output_dir": str(tmp_path / "out"), "device": torch.device("cpu")}
    with pytest.raises(Exception) as caught:
        run_workflow(adapted, ["inference", "evaluate"], overrides)
    assert any(told in str(cause) for cause in causes(caught.value)), caught.value


def test_a_scan_in_any_of_48_orientations_gives_the_same_mask(
    adapted: Path, small_cohort: Path, tmp_path: Path
) -> None:
    support = read_card(adapted)["support"]
    case = next(case for case in read_cohort(small_cohort) if case.name not in support)
    scan = reorient(read_volume(case.image))
    inputs = []
    for axes in itertools.permutations(["RL", "AP", "SI"]):
        for letters in itertools.product(*axes):
            name = "".join(letters)
            inputs.append(write_volume(reorient(scan, name), tmp_path / "scans" / f"{name}.nii.gz"))
    assert len(inputs) == 48
    masks = [read_label(path) for path in segment(adapted, inputs, tmp_path / "masks")]
    first = reorient(masks[0])
    assert {2, 5} <= set(np.unique(first.array))
    for path, mask in zip(inputs, masks, strict=True):
        assert mask.orientation == path.name[:3]
        np.testing.assert_array_equal(reorient(mask).array, first.array, err_msg=path.name)
        np.testing.assert_allclose(reorient(mask).affine, first.affine, atol=1e-4)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.2, 1.5), (2.1, 0.9, 1.3)])
def test_probabilities_lie_on_the_scans_grid_and_explain_the_mask(
    adapted: Path, small_cohort: Path, tmp_path: Path, spacing_mm: tuple
) -> None:
    from medfm3d.volumes import resample

    case = read_cohort(small_cohort).cases[5]
    scan = write_volume(resample(read_volume(case.image), spacing_mm), tmp_path / "scan.nrrd")
    (path,) = segment(adapted, [scan], tmp_path / "out", save_probabilities=True, output_ext=".mha")
    mask = read_label(path)
    cube, ball = (read_volume(tmp_path / "out" / f"scan_{organ}_probability.mha") for organ in ("cube", "ball"))
    for volume in (cube, ball):
        check_same_grid(read_volume(scan), volume)
        assert volume.array.min() >= 0 and volume.array.max() <= 1
    largest = np.stack([1 - cube.array - ball.array, cube.array, ball.array]).argmax(axis=0)
    assert (np.array([0, 2, 5])[largest] == mask.array).mean() > 0.9999


def test_equal_seeds_give_equal_weights(fewshot_bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    states = []
    for name in ("a", "b"):
        overrides = {
            "dataset_dir": str(small_cohort),
            "output_dir": str(tmp_path / name),
            "device": torch.device("cpu"),
            "k": 2,
            "iterations": 10,
            "seed": 3,
        }
        run_workflow(fewshot_bundle, "train", overrides)
        state = torch.load(tmp_path / name / "models" / "model.pt", weights_only=True)
        states.append(state.get("model", state))
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_box_adapter_bundle_leaves_the_network_as_it_was(
    fewshot_bundle: Path, small_cohort: Path, tmp_path: Path
) -> None:
    overrides = {
        "dataset_dir": str(small_cohort),
        "output_dir": str(tmp_path / "box"),
        "device": torch.device("cpu"),
        "k": 2,
        "method": "box-adapter",
        "iterations": 20,
    }
    run_workflow(fewshot_bundle, "train", overrides)
    state = torch.load(tmp_path / "box" / "models" / "model.pt", weights_only=True)
    state = state.get("model", state)
    network = Segmenter(["cube", "ball"], adapter="box-adapter")
    network.load_state_dict(state)
    assert network.adapter.conv2.weight.abs().sum() > 0
    scan = read_cohort(small_cohort).cases[0].image
    assert segment(tmp_path / "box", [scan], tmp_path / "masks") == [tmp_path / "masks" / "case_0.nii.gz"]


def test_nothing_is_overwritten_or_half_written(fewshot_bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "precious.txt").write_text("x")
    overrides = {"dataset_dir": str(small_cohort), "output_dir": str(taken), "device": torch.device("cpu"), "k": 2}
    with pytest.raises((BundleError, RuntimeError)) as caught:
        run_workflow(fewshot_bundle, "train", overrides)
    assert any("already there" in str(cause) for cause in causes(caught.value))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    with pytest.raises(BundleError, match="not an adapted bundle"):
        read_card(taken)


def test_a_bad_scan_is_named(adapted: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    with pytest.raises((RuntimeError, VolumeError)) as caught:
        segment(adapted, [tmp_path / "bad.nii.gz"], tmp_path / "out")
    error = causes(caught.value)[-1]
    assert isinstance(error, VolumeError) and "bad.nii.gz" in str(error)


def test_surprising_masks_are_remarked_on(adapted: Path, small_cohort: Path, tmp_path: Path) -> None:
    label = read_label(read_cohort(small_cohort).cases[0].label)
    usual = write_volume(label, tmp_path / "usual.nii.gz")
    odd = label.array.copy()
    odd[odd == 5] = 0
    odd[1, 1, 1] = 5
    odd_file = write_volume(type(label)(odd, label.affine), tmp_path / "odd.nii.gz")
    remarks = list_remarks(adapted, [usual, odd_file])
    assert {(remark["case"], remark["organ"], remark["prior"]) for remark in remarks} == {("odd", "ball", "volume")}
    assert remarks[0]["p_value"] < 0.01 and "mL" in remarks[0]["text"]


def bundles(repository: Path) -> list[Path]:
    return [path.parent.parent for path in sorted((repository / "bundles").glob("*/configs/metadata.json"))]


def test_metadata_of_every_bundle_is_valid(repository: Path, adapted: Path, tmp_path: Path, monai_bundle) -> None:
    schema = Path(__file__).with_name("bundle_metadata.schema.json")
    assert len(bundles(repository)) >= 3
    for bundle in [*bundles(repository), adapted]:
        metadata = bundle / "configs" / "metadata.json"
        done = monai_bundle("verify_metadata", tmp_path, meta_file=metadata, filepath=schema)
        assert "no error" in done.stdout + done.stderr
        content = json.loads(metadata.read_text())
        assert content["version"] in content["changelog"]


def test_networks_of_every_bundle_take_and_give_what_metadata_says(
    repository: Path, fewshot_bundle: Path, adapted: Path, tmp_path: Path, monai_bundle
) -> None:
    pretraining = repository / "bundles" / "mae_vit_pretraining"
    for bundle, config in ((fewshot_bundle, "inference"), (adapted, "inference"), (pretraining, "train")):
        monai_bundle(
            "verify_net_in_out",
            tmp_path,
            net_id="network_def",
            meta_file=bundle / "configs" / "metadata.json",
            config_file=bundle / "configs" / f"{config}.json",
        )


def test_configs_parse_and_name_only_what_exists(adapted: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(adapted / "configs" / "inference.json"))
    parser["bundle_root"] = str(adapted)
    assert parser.get_parsed_content("plan").organ_names == ["cube", "ball"]
    assert parser.get_parsed_content("inferer").roi_size == (32, 32, 32)


def test_weights_from_a_gpu_open_on_a_machine_without_one(adapted: Path) -> None:
    handlers = json.loads((adapted / "configs" / "inference.json").read_text())["handlers"]
    places = [handler["map_location"] for handler in handlers if handler["_target_"] == "CheckpointLoader"]
    assert places == ["cpu"]


def test_names_of_support_cases_from_a_shell(small_cohort: Path) -> None:
    cohort = read_cohort(small_cohort)
    for names in ("case_1, case_4", ["case_1", "case_4"]):
        support, query = choose_support(cohort, names=names, organs=cohort.organs)
        assert [case.name for case in support] == ["case_1", "case_4"] and len(query) == 4


def test_leftovers_of_a_run_that_was_cut_off_do_not_enter_a_bundle(
    fewshot_bundle: Path, small_cohort: Path, tmp_path: Path
) -> None:
    left = tmp_path / ".new.partial" / "models"
    left.mkdir(parents=True)
    for name in ("old.pt", "decoder.safetensors"):
        (left / name).write_bytes(b"left over")
    overrides = {"dataset_dir": str(small_cohort), "output_dir": str(tmp_path / "new"), "device": "cpu", "k": 2}
    run_workflow(fewshot_bundle, "train", {**overrides, "decoder_weights": None, "iterations": 13})
    assert {path.name for path in (tmp_path / "new" / "models").iterdir()} == {
        *("model.pt", "encoder.safetensors", "priors.json", "segmenter.json")
    }
    assert read_card(tmp_path / "new")["iterations"] == 13
    assert json.loads((tmp_path / "new" / "configs" / "train.json").read_text())["decoder_weights"] is None
