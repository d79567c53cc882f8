"""Bundles of methods that insert into the encoder, of the policy, and with refinement on each scan."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ckpt_export

from medfm3d.adaptation import METHODS, choose_by_table
from medfm3d.adaptation.auto_policy import FAR
from medfm3d.encoders import load_encoder
from medfm3d.inference import list_refinements, read_card, run_workflow
from medfm3d.segmentation import Segmenter, load_pretrained

CASES = ("case_0", "case_2")


@pytest.fixture(scope="module")
def dora_bundle(fewshot_bundle: Path, small_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("methods") / "dora"
    overrides = {
        "dataset_dir": str(small_cohort),
        "output_dir": str(output),
        "device": "cpu",
        "cases": list(CASES),
        "method": "dora",
        "method_arguments": {"rank": 2, "parts": ["attn"]},
        "iterations": 10,
    }
    run_workflow(fewshot_bundle, "train", overrides)
    return output


def state_of(bundle: Path) -> dict[str, torch.Tensor]:
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    return state.get("model", state)


def test_a_bundle_with_insertions_is_built_from_names_and_keeps_the_pretrained_encoder(dora_bundle: Path) -> None:
    definition = json.loads((dora_bundle / "configs" / "inference.json").read_text())["network_def"]
    assert definition["adapter"] == "dora" and definition["adapter_arguments"] == {"rank": 2, "parts": ["attn"]}
    network = Segmenter(["cube", "ball"], adapter="dora", adapter_arguments=definition["adapter_arguments"])
    network.load_state_dict(state_of(dora_bundle))
    pretrained = load_encoder(dora_bundle / "models" / "encoder.safetensors").state_dict()
    state = network.encoder.state_dict()
    assert all(torch.equal(state[network.encoder_names[key]], value) for key, value in pretrained.items())
    assert any(value.any() for key, value in state.items() if "lora_B" in key)  # and it was trained
    fresh = load_pretrained(
        Segmenter(["cube", "ball"], adapter="dora", adapter_arguments=definition["adapter_arguments"]),
        dora_bundle / "models" / "encoder.safetensors",
    )
    magnitudes = [key for key in state if "magnitude" in key]
    assert len(magnitudes) == 8 * 4
    assert all(torch.allclose(fresh.encoder.state_dict()[key], state[key], atol=0.1) for key in magnitudes)


def test_it_segments_with_refinement_and_exports(dora_bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    scan = small_cohort / "imagesTr" / "case_1.nii.gz"
    values = {"datalist": [str(scan)], "output_dir": str(masks), "device": "cpu", "transductive": True}
    run_workflow(dora_bundle, "inference", values)
    assert (masks / "case_1.nii.gz").is_file()
    (said,) = list_refinements(masks, [scan])
    assert [organ["organ"] for organ in said["organs"]] == ["cube", "ball"] and said["case"] == "case_1"

    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(dora_bundle / "models" / "model.pt"),
        meta_file=str(dora_bundle / "configs" / "metadata.json"),
        config_file=str(dora_bundle / "configs" / "inference.json"),
        use_trace=True,
        input_shape=[1, 1, 32, 40, 32],
    )
    network = Segmenter(
        ["cube", "ball"], adapter="dora", adapter_arguments={"rank": 2, "parts": ["attn"]}, precision="float32"
    )
    network.load_state_dict(state_of(dora_bundle))
    x = torch.randn(1, 1, 32, 40, 32)
    with torch.no_grad():
        exported, ours = torch.jit.load(str(tmp_path / "model.ts"))(x), network.eval()(x)
    assert (exported - ours).abs().max() < 0.1 * ours.abs().max()  # exported in bfloat16 where the machine has it


def test_it_trains_on_as_monai_label_has_it(dora_bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    """With data of its own and no cohort folder, by the bundle's own train config; the architecture stays."""
    bundle = shutil.copytree(dora_bundle, tmp_path / "bundle")
    before = state_of(bundle)
    data = [{part: str(small_cohort / f"{part}sTr" / "case_3.nii.gz") for part in ("image", "label")}]
    values = {"train#dataset#data": data, "train#trainer#max_epochs": 1, "device": "cpu", "dataset_dir": "nowhere"}
    run_workflow(bundle, "train", {**values, "iterations": 2})
    after = state_of(bundle)
    assert after.keys() == before.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    inside = {key for key in changed if key.startswith("encoder.")}
    assert inside and all("lora" in key for key in inside)


def test_auto_leaves_its_choice_and_its_reason_in_the_bundle(
    fewshot_bundle: Path, small_cohort: Path, tmp_path: Path
) -> None:
    output = tmp_path / "auto"
    overrides = {
        "dataset_dir": str(small_cohort),
        "output_dir": str(output),
        "device": "cpu",
        "cases": list(CASES),
        "method": "auto",
        "epochs": 1,
        "iterations": 2,
    }
    run_workflow(fewshot_bundle, "train", overrides)
    card = read_card(output)
    assert (
        "auto" in METHODS and card["method"] == choose_by_table(2, FAR).method
    )  # no MR scan looks like a cube and a ball
    assert card["method_reason"].startswith("auto: 2 outlined scans; ")
    assert "domain gap" in card["method_reason"] and "unlike those of pretraining" in card["method_reason"]
    train = json.loads((output / "configs" / "train.json").read_text())
    assert train["method"] == card["method"] and train["choice"]["_target_"] == "medfm3d.adaptation.MethodChoice"
