"""The bundle of self-distillation: training, going on, going over to other scans, and adapting with what came out."""

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from medfm3d.encoders import load_encoder, read_header

SMALL = {
    "region": [24, 24, 24],
    "global_side": [16, 16, 16],
    "local_side": [8, 8, 8],
    "local_views": 2,
    "batch_size": 2,
    "prototypes": 32,
    "hidden_dim": 24,
    "bottleneck_dim": 12,
    "steps_per_epoch": 2,
    "validation_windows": 2,
    "progress_bar": False,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    return repository / "bundles" / "dino_pretraining"


@pytest.fixture(scope="module")
def unlabelled(scans_without_labels) -> Path:
    return scans_without_labels(3, (26, 22, 28))


@pytest.mark.slow
def test_training_goes_on_in_two_processes_and_its_encoder_is_taken_to_other_scans(
    bundle: Path, unlabelled: Path, small_cohort: Path, tmp_path: Path, run_config, request: pytest.FixtureRequest
) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    paths = {"dataset_dir": unlabelled, "output_dir": output}
    run_config(bundle, "train", elsewhere, **SMALL, **paths, max_steps=2)
    first = load_encoder(output / "encoder.safetensors")
    said = run_config(
        bundle, ["train", "multi_gpu_train"], elsewhere, **SMALL, **paths, max_steps=4, devices=2, workers=0
    )
    assert "MEMBER: 2/2" in said.stdout + said.stderr
    assert "Restored all states from the checkpoint" in said.stdout + said.stderr
    assert list(elsewhere.iterdir()) == []
    header = read_header(output / "encoder.safetensors")
    assert header["architecture"] == "vit_tiny" and header["provenance"]["initial_encoder"] is None
    assert header["provenance"]["steps"] == 4 and header["provenance"]["data"] == [unlabelled.name]
    learnt = load_encoder(output / "encoder.safetensors")
    assert not torch.equal(first.eva.blocks[0].mlp.fc2.weight, learnt.eva.blocks[0].mlp.fc2.weight)
    checkpoint = torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, weight in learnt.state_dict().items():
        assert torch.equal(weight, checkpoint[f"network.teacher.encoder.{name}"]), name

    from medfm3d.cli.adapt import run_adaptation  # here, so that the bundle is tested without the command line
    from medfm3d.cli.pretrain import run_pretraining
    from medfm3d.cohorts import read_cohort

    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)
    start = output / "encoder.safetensors"
    still = {"initial_encoder": str(start), "learning_rate": 0.0, "koleo_weight": 0.0}
    result = run_pretraining(
        small_cohort, tmp_path / "on", bundle=bundle, max_steps=1, device="cpu", overrides={**SMALL, **still}
    )
    assert result["steps"] == 1 and result["last_loss"] > 0
    header = read_header(result["encoder"])["provenance"]
    assert header["initial_encoder"]["data"] == [unlabelled.name] and header["data"] == [small_cohort.name]
    for name, weight in load_encoder(result["encoder"]).state_dict().items():
        torch.testing.assert_close(weight, learnt.state_dict()[name], msg=name)  # it did start from there

    cohort = read_cohort(small_cohort)
    weights = {"encoder_weights": result["encoder"], "decoder_weights": None}
    card = run_adaptation(
        cohort, cohort.organs, tmp_path / "adapted", names=list(cohort.names[:2]), iterations=1, device="cpu",
        config=weights,
    )  # fmt: skip
    assert card["bundle"] == str(tmp_path / "adapted")


def test_a_swin_learns_by_the_same_bundle(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    parser.update({"encoder": "swin_tiny", "prototypes": 16, "hidden_dim": 16, "bottleneck_dim": 8})
    network = parser.get_parsed_content("network_def")
    mask = torch.zeros(4, 2, dtype=torch.bool)
    mask[0, 1] = mask[3, 0] = True
    losses = network.losses(torch.randn(2, 2, 1, 32, 32, 64), torch.randn(2, 1, 1, 32, 32, 32), mask, 0.05)
    (losses.dino + losses.ibot + losses.koleo).backward()
    assert losses.ibot > 0
    assert not [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]


def test_bundle_has_the_licence_of_the_repository(bundle: Path, repository: Path) -> None:
    assert (bundle / "LICENSE").read_bytes() == (repository / "LICENSE").read_bytes()
