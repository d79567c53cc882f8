"""nnU-Net v2 trains from an exported encoder: its own planner, preprocessing, loader of weights, and one step."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from medfm3d.cohorts import read_cohort
from medfm3d.encoders import WeightsError, create_encoder, load_encoder, save_encoder
from medfm3d.encoders.nnunet import NnUNetExport, export_for_nnunet
from medfm3d.encoders.nnunet.export import TRAINERS
from medfm3d.encoders.public_weights import find_encoder

pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

RESENC = ("resenc_large", {"features": (4, 6, 8), "blocks": (1, 1, 2)})
VIT = ("vit_tiny", {"embed_dim": 48, "depth": 2, "num_heads": 4, "out_layers": (1,), "register_tokens": 3})
PRIMUS = ("primus_medium", {"embed_dim": 48, "depth": 2, "num_heads": 4, "absolute_window": (16, 24, 32)})


def saved(architecture: str, arguments: dict, path: Path) -> Path:
    torch.manual_seed(1)
    encoder = create_encoder(architecture, **arguments)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return save_encoder(encoder, path, name=architecture, arguments=arguments)


@pytest.fixture(scope="module")
def planned(real_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """Two development cases of the hippocampus cohort, planned and preprocessed by nnU-Net: the plans file."""
    from fewshot_benchmark import nnunet_dataset

    folder = tmp_path_factory.mktemp("nnunet")
    with pytest.MonkeyPatch.context() as patch:
        variables = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_def_n_proc", "nnUNet_compile")
        for name in (*variables, "nnUNet_n_proc_DA", "nnUNet_extTrainer"):
            patch.setenv(name, "")  # so that they are put back afterwards
        patch.setenv("nnUNet_extTrainer", str(TRAINERS))
        threads = torch.get_num_threads()
        nnunet_dataset.set_folders(folder)
        cohort = read_cohort(real_data / "hippocampus", "msd_hippocampus").split("development")
        nnunet_dataset.write_raw_dataset(folder, cohort.cases[:2], cohort.organs, "MR")
        nnunet_dataset.plan_and_preprocess()
        torch.set_num_threads(threads)
        yield folder / "preprocessed" / nnunet_dataset.DATASET / f"{nnunet_dataset.PLANS}.json"


def trainer_of(exported: NnUNetExport):
    """nnU-Net's trainer as `nnUNetv2_train -tr ... -p ... -pretrained_weights ...` makes it."""
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    plans = json.loads(Path(exported.plans).read_text())
    plans["continue_training"] = False
    dataset = json.loads(Path(exported.plans).with_name("dataset.json").read_text())
    build = recursive_find_trainer_class_by_name(exported.trainer)
    trainer = build(plans, "3d_fullres", "all", dataset, torch.device("cpu"))
    trainer.initialize()
    load_pretrained_weights(trainer.network, exported.path)
    return trainer


@pytest.mark.parametrize(("architecture", "arguments"), [RESENC, VIT, PRIMUS], ids=["resenc", "vit", "primus"])
def test_nnunet_trains_from_the_exported_encoder(
    planned: Path, tmp_path: Path, architecture: str, arguments: dict
) -> None:
    weights = saved(architecture, arguments, tmp_path / f"own_{architecture}.safetensors")
    exported = export_for_nnunet(find_encoder(weights), planned, tmp_path / "start.pth")
    assert exported.tensors > 20 and exported.commands[-1].endswith(f"-pretrained_weights {tmp_path / 'start.pth'}")
    written = torch.load(exported.path, weights_only=True)["network_weights"]
    trainer = trainer_of(exported)
    state = trainer.network.state_dict()
    assert all(torch.equal(state[name], written[name]) for name in exported.encoder_names)

    ours = load_encoder(weights)
    trainer.network.eval()
    patch = trainer.configuration_manager.patch_size
    x = torch.randn(1, 1, *patch)  # (z, y, x), as nnU-Net has it
    with torch.no_grad():
        mine = ours(x.permute(0, 1, 4, 3, 2))
        if architecture == "resenc_large":
            theirs = trainer.network.encoder(x)
        else:
            tokens = trainer.network.down_projection(x).flatten(2).transpose(1, 2)
            if trainer.network.register_tokens is not None:
                tokens = torch.cat([trainer.network.register_tokens, tokens], dim=1)
            tokens, _ = trainer.network.eva(tokens)
            tokens = tokens[:, trainer.network.eva.num_prefix_tokens :]
            theirs = [tokens.transpose(1, 2).unflatten(2, [side // 8 for side in patch])]
    for expected, given in zip(mine, theirs, strict=True):
        torch.testing.assert_close(given, expected.permute(0, 1, 4, 3, 2), atol=1e-4, rtol=1e-4)

    batches, _ = trainer.get_dataloaders()
    trainer.network.train()
    loss = trainer.train_step(next(batches))["loss"]
    assert torch.isfinite(torch.as_tensor(loss))
    after = trainer.network.state_dict()
    learnt = {name for name, _ in trainer.network.named_parameters()} & set(exported.encoder_names)
    unmoved = [name for name in learnt if torch.equal(after[name], written[name])]
    assert learnt and not unmoved, unmoved


def test_hounsfield_units_mean_the_same_on_both_sides(planned: Path, tmp_path: Path) -> None:
    """CT normalised by nnU-Net's statistics, through the exported network, and by medfm3d's, through the encoder."""
    from medfm3d.volumes import IntensityNormalized

    plans = json.loads(planned.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {"normalization_schemes": ["CTNormalization"], "patch_size": [16, 24, 32]}
    plans["foreground_intensity_properties_per_channel"]["0"] |= {"mean": 55.0, "std": 48.0}
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(plans))
    (tmp_path / "dataset.json").write_text(planned.with_name("dataset.json").read_text())
    weights = saved(VIT[0], VIT[1] | {"input_intensity": {"scale": 0.2, "shift": 0.4}}, tmp_path / "ct.safetensors")
    exported = export_for_nnunet(find_encoder(weights), tmp_path / "nnUNetPlans.json", tmp_path / "start.pth")
    network = trainer_of(exported).network.eval()
    hu = torch.empty(1, 16, 24, 32).uniform_(-190, 290)  # what neither side clips
    normalised = IntensityNormalized("image", modality="CT")({"image": hu.permute(0, 3, 2, 1)})["image"][None]
    with torch.no_grad():
        tokens = network.down_projection((hu[None] - 55.0) / 48.0).flatten(2).transpose(1, 2)
        tokens, _ = network.eva(torch.cat([network.register_tokens, tokens], dim=1))
        (expected,) = load_encoder(weights)(normalised)
    theirs = tokens[:, 3:].transpose(1, 2).unflatten(2, (2, 3, 4))
    torch.testing.assert_close(theirs, expected.permute(0, 1, 4, 3, 2), atol=1e-4, rtol=1e-4)


def test_published_sizes_go_to_nnunets_own_trainers() -> None:
    from medfm3d.encoders.nnunet.plans import plan_of

    with torch.device("meta"):
        found = {name: plan_of(create_encoder(name)).trainer for name in ("primus_medium", "vit_medium")}
    assert found == {"primus_medium": "nnUNet_Primus_M_Trainer", "vit_medium": "Medfm3dViTTrainer"}


@pytest.mark.parametrize("size", ["small", "medium"])
def test_published_sizes_are_those_of_nnunets_trainers(size: str) -> None:
    from nnunetv2.training.nnUNetTrainer.primus import primus_trainers

    build = getattr(primus_trainers, f"nnUNet_Primus_{size[0].upper()}_Trainer").build_network_architecture
    with torch.device("meta"):
        theirs = build(None, SimpleNamespace(patch_size=(160, 160, 160)), 1, 2).state_dict()
        ours = create_encoder(f"primus_{size}").state_dict()
    parts = {name: tensor.shape for name, tensor in theirs.items() if name.startswith(("eva.", "down_projection."))}
    assert {name: tensor.shape for name, tensor in ours.items()} == parts


def test_what_nnunet_cannot_build_is_refused(planned: Path, tmp_path: Path) -> None:
    weights = saved("segresnet", {"init_filters": 8, "blocks": (1, 1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="no network with a SegResNetEncoder"):
        export_for_nnunet(find_encoder(weights), planned, tmp_path / "start.pth")
    weights = saved(*RESENC, tmp_path / "own.safetensors")
    with pytest.raises(WeightsError, match=r"absent\.json: no such file; let nnU-Net plan"):
        export_for_nnunet(find_encoder(weights), tmp_path / "absent.json", tmp_path / "start.pth")
    with pytest.raises(WeightsError, match="no configuration '4d'"):
        export_for_nnunet(find_encoder(weights), planned, tmp_path / "start.pth", configuration="4d")
    assert not (tmp_path / "start.pth").exists()
