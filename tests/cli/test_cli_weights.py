"""`medfm3d weights`, and adaptation with an encoder that it imported."""

import json
import sys
from pathlib import Path

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet

from medfm3d.cli.adapt import run_adaptation
from medfm3d.cli.pretrain import run_pretraining
from medfm3d.cli.segment import run_segmentation
from medfm3d.cohorts import read_cohort
from medfm3d.encoders import create_encoder, load_encoder, read_header, save_encoder
from medfm3d.encoders.public_weights import import_weights
from medfm3d.volumes.errors import causes

TINY_PRIMUS = {"embed_dim": 48, "depth": 2, "num_heads": 4, "absolute_window": (16, 16, 16)}
TINY_SEGRESNET = {"init_filters": 8, "blocks": (1, 1, 1)}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of imported weights: a tiny SegResNet as SuPreM saves it, and a tiny Primus."""
    folder = tmp_path / "store"
    monkeypatch.setenv("MEDFM3D_WEIGHTS", str(folder))
    torch.manual_seed(0)
    network = SegResNet(init_filters=8, in_channels=1, out_channels=2, blocks_down=(1, 1, 1), blocks_up=(1, 1))
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"net": state}, tmp_path / "segresnet.pth")
    import_weights(tmp_path / "segresnet.pth", "suprem_segresnet", arguments=TINY_SEGRESNET)
    primus = create_encoder("primus_medium", **TINY_PRIMUS)
    save_encoder(
        primus,
        folder / "primus.safetensors",
        name="primus_medium",
        arguments=TINY_PRIMUS,
        provenance={"made": "here"},
    )
    return folder


def adapted(small_cohort: Path, output: Path, encoder: str, method: str = "decoder", **options) -> dict:
    cohort = read_cohort(small_cohort)
    names = [case.name for case in cohort.cases[:2]]
    return run_adaptation(
        cohort,
        cohort.organs,
        output,
        names=names,
        method=method,
        encoder=encoder,
        iterations=2,
        device="cpu",
        config={"priors": []},
        **options,
    )


def test_a_bundle_adapted_from_imported_weights_needs_them_no_more(
    store: Path, small_cohort: Path, tmp_path: Path
) -> None:
    result = adapted(small_cohort, tmp_path / "bundle", "suprem_segresnet")
    assert result["encoder"] == "segresnet" and result["encoder_arguments"]["init_filters"] == 8
    assert result["decoder_pretrained"] is False
    remarks = " ".join(result["encoder_remarks"])
    assert "CC BY-NC-ND" in remarks and "trained on CT and these scans are MR" in remarks
    assert "CC BY-NC-ND" in (tmp_path / "bundle" / "docs" / "README.md").read_text()
    before = load_encoder(store / "suprem_segresnet.safetensors").state_dict()
    (store / "suprem_segresnet.safetensors").unlink()
    state = torch.load(tmp_path / "bundle" / "models" / "model.pt", weights_only=True)
    state = state.get("model", state)
    assert all(torch.equal(state[f"encoder.{name}"], tensor) for name, tensor in before.items())
    scan = sorted((small_cohort / "imagesTr").iterdir())[0]
    run_segmentation(tmp_path / "bundle", scan, tmp_path / "masks", device="cpu", seed=0)
    assert list((tmp_path / "masks").glob("*.nii.gz"))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_methods_that_change_the_encoder_start_from_imported_weights(
    store: Path, small_cohort: Path, tmp_path: Path, method: str
) -> None:
    result = adapted(small_cohort, tmp_path / "bundle", "primus", method)
    assert result["method"] == method and result["encoder_remarks"] == []
    before = load_encoder(store / "primus.safetensors").state_dict()
    state = torch.load(tmp_path / "bundle" / "models" / "model.pt", weights_only=True)
    state = state.get("model", state)
    position = state["encoder.eva.pos_embed"]
    moved = not torch.equal(position, before["eva.pos_embed"])
    torch.testing.assert_close(position, before["eva.pos_embed"], atol=0.05, rtol=0)
    assert moved == (method == "full")


def test_full_tuning_knows_the_stages_of_a_convolutional_encoder(
    store: Path, small_cohort: Path, tmp_path: Path
) -> None:
    adapted(small_cohort, tmp_path / "bundle", "suprem_segresnet", "full")
    with pytest.raises(RuntimeError) as refusal:
        adapted(small_cohort, tmp_path / "other", "suprem_segresnet", "lora")
    cause = causes(refusal.value)[-1]  # MONAI wraps what the network raised
    assert "method lora works on transformer blocks, and SegResNetEncoder has none" in str(cause)


def test_pretraining_goes_on_from_imported_weights(store: Path, small_cohort: Path, tmp_path: Path) -> None:
    primus = store / "primus.safetensors"
    smaller = {"window": [16, 16, 16], "batch_size": 1, "validation_windows": 1, "progress_bar": False, "workers": 0}
    result = run_pretraining(
        small_cohort / "imagesTr",
        tmp_path / "pretrained",
        encoder=str(primus),
        max_steps=2,
        device="cpu",
        overrides={**smaller, "learning_rate": 1e-4, "warmup_steps": 0},
    )
    header = read_header(result["encoder"])
    assert header["architecture"] == "primus_medium" and header["arguments"]["embed_dim"] == 48
    assert header["provenance"]["initial_encoder"] == {"made": "here"}
    before, after = load_encoder(primus).state_dict(), load_encoder(result["encoder"]).state_dict()
    weight = "eva.blocks.0.mlp.fc2.weight"
    assert not torch.equal(before[weight], after[weight])
    torch.testing.assert_close(before[weight], after[weight], atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="no bundle for masked pretraining of 'segresnet'"):
        run_pretraining(small_cohort / "imagesTr", tmp_path / "other", encoder="suprem_segresnet", device="cpu")


def test_list_info_and_import(medfm3d, store: Path, tmp_path: Path) -> None:
    code, words = medfm3d("weights", "list", "--json", tmp_path / "list.json")
    assert code == 0, words
    listed = {entry["name"]: entry for entry in json.loads((tmp_path / "list.json").read_text())["weights"]}
    assert listed["suprem_segresnet"]["imported"] and not listed["vista3d"]["imported"]
    code, words = medfm3d("weights", "info", "vista3d")
    assert code == 0 and "non-commercial" in words and "model.pt" in words
    full = create_encoder("segresnet")
    state = {
        name.replace("network.stem", "module.convInit").replace("network.stages", "module.down_layers"): value
        for name, value in full.state_dict().items()
    }
    torch.save({"net": state}, tmp_path / "theirs.pth")
    code, words = medfm3d(
        "weights", "import", tmp_path / "theirs.pth", "--as", "suprem_segresnet", "--output", tmp_path / "elsewhere"
    )
    assert code == 0 and "100.0% of the encoder's weights loaded" in words and "licence" in words, words
    assert (tmp_path / "elsewhere" / "suprem_segresnet.safetensors").is_file()
    removed = next(name for name in state if name.endswith("conv2.conv.weight"))
    del state[removed]
    torch.save({"net": state}, tmp_path / "part.pth")
    command = ("weights", "import", tmp_path / "part.pth", "--as", "suprem_segresnet", "--output", tmp_path / "part")
    code, words = medfm3d(*command)
    assert code == 1 and "part.pth" in words and "missing" in words
    code, words = medfm3d(*command, "--allow-partial", 0.5)
    assert code == 0 and "missing" in words
    code, words = medfm3d("weights", "import", tmp_path / "part.pth", "--as", "nonsense")
    assert code == 1 and "vista3d" in words
    assert "Traceback" not in words and sys.argv[0] == "medfm3d"


def test_export_to_nnunet(medfm3d, store: Path, tmp_path: Path) -> None:
    pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
    command = ("weights", "export-nnunet", "primus", "--plans", tmp_path / "plans.json", "--output", tmp_path / "a.pth")
    code, words = medfm3d(*command)
    assert code == 1 and "plans.json: no such file; let nnU-Net plan" in words
    unet = {"network_class_name": "its own U-Net", "arch_kwargs": {}, "_kw_requires_import": []}
    configuration = {"patch_size": [20, 16, 16], "normalization_schemes": ["ZScoreNormalization"], "architecture": unet}
    plans = {
        "dataset_name": "Dataset001_own",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration},
    }
    dataset = {"channel_names": {"0": "MR", "1": "MR"}, "labels": {"background": 0, "liver": 1}}
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    code, words = medfm3d(*command)
    assert code == 0 and "nnUNetv2_train Dataset001_own 3d_fullres 0 -p nnUNetPlans_primus" in words, words
    written = torch.load(tmp_path / "a.pth", weights_only=True)["network_weights"]
    ours = load_encoder(store / "primus.safetensors").state_dict()
    kernel = ours["down_projection.proj.weight"].permute(0, 1, 4, 3, 2)  # (x, y, z) to nnU-Net's (z, y, x)
    torch.testing.assert_close(written["down_projection.proj.weight"], kernel.expand(-1, 2, -1, -1, -1) / 2)
    made = json.loads((tmp_path / "nnUNetPlans_primus.json").read_text())["configurations"]["3d_fullres"]
    assert made["patch_size"] == [24, 16, 16] and made["architecture"]["arch_kwargs"]["embed_dim"] == 48
