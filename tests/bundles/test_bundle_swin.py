"""The few-shot bundle on a Swin encoder: adapted from fresh weights, or from those of a file, and used."""

import json
from pathlib import Path

import nibabel as nib
import pytest
import torch

from medfm3d.encoders import create_encoder, load_encoder, save_encoder
from medfm3d.inference import read_card, run_workflow

TINY = {"feature_size": 12, "num_heads": [1, 2, 2, 3], "depths": [1, 1, 1, 1], "window_size": 2}


@pytest.fixture(autouse=True)
def single_thread(request: pytest.FixtureRequest) -> None:
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)


@pytest.mark.parametrize("pretrained", [False, True], ids=["fresh", "pretrained"])
def test_a_bundle_is_adapted_from_a_swin_and_segments(
    pretrained: bool, fewshot_bundle: Path, small_cohort: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    file = tmp_path / "swin.safetensors"
    save_encoder(create_encoder("swin_tiny", **TINY), file, name="swin_tiny", arguments=TINY, provenance={"seed": 0})
    output, masks = tmp_path / "adapted", tmp_path / "masks"
    values = {
        "dataset_dir": str(small_cohort),
        "output_dir": str(output),
        "device": "cpu",
        "cases": ["case_0", "case_2"],
        "encoder": "swin_tiny",
        "encoder_arguments": TINY,
        "encoder_weights": str(file) if pretrained else None,
        "decoder_weights": None,
        "iterations": 2,
        "epochs": 1,
    }
    run_workflow(fewshot_bundle, "train", values)
    card = read_card(output)
    assert card["encoder"] == "swin_tiny" and card["plan"]["window"] == [64, 64, 64]
    assert card["encoder_provenance"] == ({"seed": 0} if pretrained else {"method": "none"})
    train = json.loads((output / "configs" / "train.json").read_text())
    assert train["decoder_weights"] is None and (train["encoder_weights"] is None) != pretrained
    state = torch.load(output / "models" / "model.pt", weights_only=True)
    state = state.get("model", state)
    if pretrained:  # the method trains the decoder alone
        for name, weight in load_encoder(output / "models" / "encoder.safetensors").state_dict().items():
            assert torch.equal(state[f"encoder.{name}"], weight), name
    scan = small_cohort / "imagesTr" / "case_1.nii.gz"
    run_workflow(output, "inference", {"datalist": [str(scan)], "output_dir": str(masks), "device": "cpu"})
    mask = nib.load(masks / "case_1.nii.gz")
    assert mask.shape == nib.load(scan).shape
