import json
from pathlib import Path

import pytest
import torch

from medfm3d.encoders import load_encoder, read_header

SMALL = {
    "device": "cpu",
    "decoder_dim": "24",
    "decoder_depth": "1",
    "steps_per_epoch": "2",
    "validation_windows": "2",
    "picture_every_n_epochs": "2",
    "progress_bar": "False",
}


# Which encoder a bundle trains, and the least window that has units to hide and units to show.
KINDS = {"mae_vit_pretraining": ("vit_tiny", (16, 16, 16)), "mae_swin_pretraining": ("swin_tiny", (64, 64, 32))}


@pytest.fixture(scope="module", params=KINDS)
def bundle(repository: Path, request: pytest.FixtureRequest) -> Path:
    return repository / "bundles" / request.param


@pytest.fixture(scope="module")
def unlabelled(scans_without_labels) -> Path:
    return scans_without_labels(4, (64, 66, 40))


def run_training(run_config, bundle: Path, data: Path, output: Path, cwd: Path, **options: object) -> str:
    configs = options.pop("configs", "train")
    small = {**SMALL, "window": list(KINDS[bundle.name][1]), **options}
    done = run_config(bundle, configs, cwd, dataset_dir=data, output_dir=output, **small)
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
    name, window = KINDS[bundle.name]
    assert header["architecture"] == name
    assert header["provenance"]["steps"] == 4 and header["provenance"]["data"] == [unlabelled.name]
    encoder = load_encoder(output / "encoder.safetensors")
    assert encoder(torch.zeros(1, 1, *window))[-1].shape[2:] == encoder.unit_grid(window)
    assert (output / "pictures" / "epoch_0002.png").is_file()
    monai_bundle(
        "run",
        elsewhere,
        config_file=bundle / "configs" / "reconstruct.json",
        bundle_root=bundle,
        dataset_dir=unlabelled,
        output_dir=tmp_path / "pictures",
        checkpoint=output / "checkpoints" / "last.ckpt",
        window=list(window),
        **{name: SMALL[name] for name in ("device", "decoder_dim", "decoder_depth")},
    )
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [f"scan_{i}.png" for i in range(4)]
    assert list(elsewhere.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["mae_vit_pretraining"], indirect=True)
def test_two_processes_train_together(bundle: Path, unlabelled: Path, tmp_path: Path, run_config) -> None:
    output = tmp_path / "out"
    options = {"configs": ["train", "multi_gpu_train"], "devices": 2, "workers": 0, "max_steps": 2, "batch_size": 1}
    said = run_training(run_config, bundle, unlabelled, output, tmp_path, **options)
    assert "MEMBER: 2/2" in said
    assert read_header(output / "encoder.safetensors")["provenance"]["steps"] == 2


def test_configs_of_training_and_pictures_build_one_network(bundle: Path) -> None:
    train, reconstruct = (
        json.loads((bundle / "configs" / f"{name}.json").read_text()) for name in ("train", "reconstruct")
    )
    assert train.get("method") == reconstruct.get("method")
    sizes = ("encoder", "encoder_arguments", "decoder_dim", "decoder_depth", "decoder_heads", "mask_ratio", "window")
    for key in sizes:
        assert train[key] == reconstruct[key], key
    start, built = train["network_def"].pop("encoder"), reconstruct["network_def"].pop("encoder")
    assert built.removeprefix("$") in start and train["network_def"] == reconstruct["network_def"]


def test_bundle_has_the_licence_of_the_repository(bundle: Path, repository: Path) -> None:
    assert (bundle / "LICENSE").read_bytes() == (repository / "LICENSE").read_bytes()


@pytest.mark.parametrize(
    ("encoder", "window", "method"),
    [(None, 16, "masked autoencoder"), ("swin_tiny", [64, 64, 32], "masked autoencoder"), ("swin_tiny", 64, "SimMIM")],
)
def test_command_line_reports_what_was_done(
    encoder: str | None,
    window: int | list[int],
    method: str,
    unlabelled: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    from medfm3d.cli.pretrain import run_pretraining  # here, so that the bundle is tested without the command line

    small = {**SMALL, "window": window, "decoder_dim": 24, "decoder_depth": 1, "steps_per_epoch": 2, "batch_size": 1}
    small |= {"validation_windows": 0, "picture_every_n_epochs": 9, "progress_bar": False}
    if method == "SimMIM":
        small["method"] = "simmim"
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)  # a network this small loses time to threads that wait for each other
    options = {"encoder": encoder, "max_steps": 2, "device": "cpu", "seed": 1, "overrides": small}
    result = run_pretraining(unlabelled, tmp_path, **options)
    assert result["steps"] == 2 and result["pretraining_s"] > 0
    assert 0.3 < result["last_loss"] < 2 and 0.3 < result["first_loss"] < 2
    load_encoder(result["encoder"])
    header = read_header(result["encoder"])
    assert header["architecture"] == (encoder or "vit_tiny") and header["provenance"]["method"] == method
    with pytest.raises(ValueError, match="complete"):
        run_pretraining(unlabelled, tmp_path, **options)
    with pytest.raises(ValueError, match="no bundle for masked pretraining of 'stunet_base': choose one of vit_tiny"):
        run_pretraining(unlabelled, tmp_path, **{**options, "encoder": "stunet_base"})
