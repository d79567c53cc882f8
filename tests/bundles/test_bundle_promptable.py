"""The promptable bundle, run as users run it and as MONAI Label runs it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from medfm3d.cohorts import read_cohort
from medfm3d.encoders import WeightsError
from medfm3d.inference import run_workflow
from medfm3d.segmentation.prompts import (
    Prompt,
    PromptableSegmenter,
    PromptError,
    PromptSession,
    first_click,
    load_promptable,
    next_click,
)
from medfm3d.volumes import check_same_grid, read_label, read_volume
from medfm3d.volumes.errors import causes

# Dice after 1, 3, 5 and 10 clicks on hippocampus_003, less a margin: see docs/README.md of the bundle.
CASE = "hippocampus_003"
FLOORS = {1: 0.4, 3: 0.6, 5: 0.65, 10: 0.7}


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    return repository / "bundles" / "promptable_segmentation"


@pytest.fixture(scope="module")
def scan(small_cohort: Path) -> Path:
    return read_cohort(small_cohort).cases[1].image  # stored as LPS


def test_bundle_is_complete_and_small(bundle: Path, repository: Path) -> None:
    for name in ("configs/train.json", "configs/logging.conf", "docs/README.md", "docs/data_license.txt"):
        assert (bundle / name).stat().st_size > 0
    assert (bundle / "LICENSE").read_bytes() == (repository / "LICENSE").read_bytes()
    assert sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) < 25e6
    card = json.loads((bundle / "models" / "model.json").read_text())
    assert card["command"].startswith("python tools/train_promptable_weights.py") and card["steps"] > 100
    network = load_promptable(bundle)
    assert list(network.organ_names) == card["organs"]
    learnt = " ".join(card["organs"])  # nothing that medfm3d is judged by
    assert not any(name in learnt for name in ("hippocampus", "stem", "parotid", "mandible", "esophagus", "cord"))


def test_bundle_has_all_that_monai_asks_for(bundle: Path, tmp_path: Path) -> None:
    for kind in ("inference", "train"):
        workflow = ConfigWorkflow(
            config_file=str(bundle / "configs" / f"{kind}.json"),
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type=kind,
            bundle_root=str(bundle),
            output_dir=str(tmp_path),
            datalist=[],
        )
        workflow.initialize()
        assert workflow.check_properties() == []


def test_network_keeps_the_shape_that_the_metadata_promise(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    formats = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    network = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        returned = network(torch.rand(1, image["num_channels"], *image["spatial_shape"]))
    assert returned.shape == (1, pred["num_channels"], *pred["spatial_shape"])


@pytest.mark.slow
def test_run_from_a_shell_answers_as_a_session_does(
    bundle: Path, scan: Path, tmp_path: Path, run_config: Callable
) -> None:
    prompts = {"foreground": [[20, 20, 16], [21, 19, 14]], "background": [[5, 5, 5]], "roi": [12, 12, 27, 28, 8, 24]}
    run_config(bundle, "inference", tmp_path, dataset_dir=scan, output_dir=tmp_path, prompts=prompts, device="cpu")
    volume = read_volume(scan)
    asked = Prompt(prompts["foreground"], prompts["background"], boxes=[[[12, 12, 8], [27, 28, 24]]])
    wanted = PromptSession(volume, load_promptable(bundle)).answer(asked)
    found = read_label(tmp_path / scan.name)
    check_same_grid(volume, found)
    assert found.array.any()
    np.testing.assert_array_equal(found.array, wanted.array)


def test_prompt_outside_of_the_scan_is_named(bundle: Path, scan: Path, tmp_path: Path) -> None:
    values = {"datalist": [str(scan)], "output_dir": str(tmp_path), "prompts": {"foreground": [[900, 2, 3]]}}
    with pytest.raises((PromptError, RuntimeError)) as raised:
        run_workflow(bundle, "inference", {**values, "device": torch.device("cpu")})
    messages = [str(cause) for cause in causes(raised.value)]
    assert any("lies outside of the scan of" in message and scan.name in message for message in messages)


def test_bundle_without_weights_is_refused_by_name(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    state = torch.load(copy / "models" / "model.pt", weights_only=True)
    torch.save({key: value for key, value in state.items() if not key.startswith("mask_decoder.deep")}, copy / "part")
    (copy / "part").replace(copy / "models" / "model.pt")
    with pytest.raises(WeightsError, match=r"model\.pt: does not fit"):
        load_promptable(copy)
    (copy / "models" / "model.pt").unlink()
    with pytest.raises(WeightsError, match=r"model\.pt: no such file"):
        load_promptable(copy)


@pytest.fixture(scope="module")
def label_task(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    """The bundle as the stock app loads it from a folder that its documentation names."""
    pytest.importorskip("monailabel", reason="MONAI Label is not installed: pip install '.[label]'")
    from medfm3d.serving.pydicom_shim import install_shim

    install_shim()
    from monailabel.tasks.infer.bundle import BundleInferTask

    folder = tmp_path_factory.mktemp("model") / "promptable_deepgrow"
    shutil.copytree(bundle, folder)
    return BundleInferTask(str(folder), {"preload": "false"}, load_strict=True)


def test_monai_label_offers_it_as_an_interactive_model(label_task: object) -> None:
    info = label_task.info()
    assert label_task.is_valid() and info["type"] == "deepgrow" and info["dimension"] == 3
    assert info["labels"] == {"organ": 1}


def test_clicks_of_monai_label_reach_it_and_features_are_kept(
    label_task: object, bundle: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = PromptableSegmenter.encode
    monkeypatch.setattr(PromptableSegmenter, "encode", lambda self, x: encoded.append(1) or encode(self, x))
    volume = read_volume(scan)
    requests = [
        {"label": "liver", "foreground": [[20, 20, 16]], "background": []},
        {"label": "liver", "foreground": [[20, 20, 16]], "background": [[5, 5, 5]]},
        {"foreground": [], "background": [], "roi": [12, 12, 27, 28, 8, 24]},
    ]
    answers = []
    for request in requests:
        file, result = label_task({"image": str(scan), "device": "cpu", "model": "promptable_deepgrow", **request})
        answers.append(read_label(file))
        Path(file).unlink()
        assert result["label_names"] == {"organ": 1}
    assert len(encoded) <= 2  # one for the clicks, at most one for the box
    session = PromptSession(volume, load_promptable(bundle))
    asked = [
        Prompt([[20, 20, 16]], organ="liver"),
        Prompt([[20, 20, 16]], [[5, 5, 5]], organ="liver"),
        Prompt(boxes=[[[12, 12, 8], [27, 28, 24]]]),
    ]
    for prompt, answer in zip(asked, answers, strict=True):
        check_same_grid(volume, answer)
        np.testing.assert_array_equal(answer.array, session.answer(prompt).array)


def test_server_of_ours_offers_it_under_any_name_and_says_what_is_wrong(
    label_task: object, bundle: Path, adapted: Path, scan: Path
) -> None:
    from fastapi import HTTPException

    from medfm3d.serving.prompted_task import PromptedInferTask, is_prompted

    assert is_prompted(bundle) and not is_prompted(adapted)
    task = PromptedInferTask(bundle, {"preload": "false"})
    assert task.info()["type"] == "deepgrow"
    request = {"image": str(scan), "device": "cpu", "model": bundle.name}
    for prompts, says in (
        ({"foreground": [], "background": []}, "nothing is pointed at"),
        ({"foreground": [[500, 1, 1]], "background": []}, "lies outside of the scan"),
    ):
        with pytest.raises(HTTPException) as raised:
            task({**request, **prompts})
        assert raised.value.status_code == 422 and says in raised.value.detail


def test_training_from_a_cohort_writes_weights_that_fit(bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    values = {"dataset_dir": str(small_cohort), "output_dir": str(tmp_path), "device": "cpu", "sides": [16, 24]}
    short = {"max_steps": 2, "validation_windows": 1, "targets": 1, "rounds": 1, "progress_bar": False}
    run_workflow(bundle, "train", {**values, **short})
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["steps"] == 2 and 0 <= card["train_dice"] <= 1
    PromptableSegmenter().load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))


def test_shipped_weights_follow_clicks_on_a_real_scan(bundle: Path, real_data: Path) -> None:
    cohort = read_cohort(real_data / "hippocampus", "msd_hippocampus")
    case = cohort.split("development").select([CASE]).cases[0]
    target = read_label(case.label).array > 0
    session = PromptSession(read_volume(case.image), load_promptable(bundle))
    click, reached = first_click(target), {}
    for count in range(1, max(FLOORS) + 1):
        found = session.click(click.point, click.foreground).mask().array > 0
        reached[count] = dice(found, target)
        click = next_click(target, found)
    assert all(reached[count] > floor for count, floor in FLOORS.items()), reached
