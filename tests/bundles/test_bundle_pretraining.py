import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from medfm3d.encoders import load_encoder, read_header

SMALL = {
    "device": "cpu",
    "window": "[16,16,16]",
    "decoder_dim": "24",
    "decoder_depth": "1",
    "steps_per_epoch": "2",
    "validation_windows": "2",
    "picture_every_n_epochs": "2",
    "progress_bar": "False",
}


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    return repository / "bundles" / "mae_vit_pretraining"


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unlabelled")
    rng = np.random.default_rng(0)
    for index in range(4):
        array = rng.normal(50, 10, (20 + index, 18, 24)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.0, 1.5, 1.0])), folder / f"scan_{index}.nii.gz")
    return folder


def run_training(run_config, bundle: Path, data: Path, output: Path, cwd: Path, **options: object) -> str:
    configs = options.pop("configs", "train")
    done = run_config(bundle, configs, cwd, dataset_dir=data, output_dir=output, **{**SMALL, **options})
    return done.stdout + done.stderr


@pytest.mark.slow
def test_training_resumes_and_its_checkpoint_makes_pictures(
    bundle: Path, unlabelled: Path, tmp_path: Path, run_config, monai_bundle
) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run_training(run_config, bundle, unlabelled, output, elsewhere, max_steps=2)
    said = run_training(run_config, bundle, unlabelled, output, elsewhere, max_steps=4)
    assert "Restored all states from the checkpoint" in said
    header = read_header(output / "encoder.safetensors")
    assert header["architecture"] == "vit_tiny"
    assert header["provenance"]["steps"] == 4 and header["provenance"]["data"] == [unlabelled.name]
    assert load_encoder(output / "encoder.safetensors")(torch.zeros(1, 1, 16, 16, 16))[0].shape[2:] == (2, 2, 2)
    assert (output / "pictures" / "epoch_0002.png").is_file()
    monai_bundle(
        "run",
        elsewhere,
        config_file=bundle / "configs" / "reconstruct.json",
        bundle_root=bundle,
        dataset_dir=unlabelled,
        output_dir=tmp_path / "pictures",
        checkpoint=output / "checkpoints" / "last.ckpt",
        **{name: SMALL[name] for name in ("device", "window", "decoder_dim", "decoder_depth")},
    )
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [f"scan_{i}.png" for i in range(4)]
    assert list(elsewhere.iterdir()) == []


@pytest.mark.slow
def test_two_processes_train_together(bundle: Path, unlabelled: Path, tmp_path: Path, run_config) -> None:
    output = tmp_path / "out"
    options = {"configs": ["train", "multi_gpu_train"], "devices": 2, "workers": 0, "max_steps": 2, "batch_size": 1}
    said = run_training(run_config, bundle, unlabelled, output, tmp_path, **options)
    assert "MEMBER: 2/2" in said
    assert read_header(output / "encoder.safetensors")["provenance"]["steps"] == 2


def test_network_keeps_the_shape_that_the_metadata_promise(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    image, pred = metadata["inputs"]["image"], metadata["outputs"]["pred"]
    network = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        returned = network(torch.rand(1, image["num_channels"], *image["spatial_shape"]))
    assert returned.shape == (1, pred["num_channels"], *pred["spatial_shape"])
    assert set(image["channel_def"]) == {"0"} and set(pred["channel_def"]) == {"0"}


def test_configs_of_training_and_pictures_build_one_network(bundle: Path) -> None:
    train, reconstruct = (
        json.loads((bundle / "configs" / f"{name}.json").read_text()) for name in ("train", "reconstruct")
    )
    for key in ("network_def", "encoder", "decoder_dim", "decoder_depth", "decoder_heads", "mask_ratio", "window"):
        assert train[key] == reconstruct[key], key


def test_bundle_has_the_licence_of_the_repository(bundle: Path, repository: Path) -> None:
    assert (bundle / "LICENSE").read_bytes() == (repository / "LICENSE").read_bytes()


def test_command_line_reports_what_was_done(unlabelled: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    from medfm3d.cli.pretrain import run_pretraining  # here, so that the bundle is tested without the command line

    small = {**SMALL, "window": 16, "decoder_dim": 24, "decoder_depth": 1, "steps_per_epoch": 2}
    small |= {"validation_windows": 0, "picture_every_n_epochs": 9, "progress_bar": False}
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)  # a network this small loses time to threads that wait for each other
    result = run_pretraining(unlabelled, tmp_path, max_steps=2, device="cpu", seed=1, overrides=small)
    assert result["steps"] == 2 and result["pretraining_s"] > 0
    assert 0.5 < result["last_loss"] < 2 and 0.5 < result["first_loss"] < 2
    load_encoder(result["encoder"])
    with pytest.raises(ValueError, match="complete"):
        run_pretraining(unlabelled, tmp_path, max_steps=2, device="cpu", seed=1, overrides=small)
