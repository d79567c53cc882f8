from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medfm3d.encoders import WeightsError, create_encoder, load_encoder, read_header
from medfm3d.pretraining import (
    ExportEncoder,
    MAEModule,
    MaskedAutoencoder,
    PretrainingData,
    ReconstructionPicture,
    find_checkpoint,
    load_network,
)

TOTAL_STEPS = 8


def make_network(name: str = "vit_tiny") -> MaskedAutoencoder:
    torch.manual_seed(5)
    return MaskedAutoencoder(create_encoder(name), decoder_dim=24, decoder_depth=1, decoder_heads=2)


def train(scans: Path, output: Path, steps: int, resume: str = "never", **trainer_arguments) -> MAEModule:
    module = MAEModule(make_network(), TOTAL_STEPS, warmup_steps=2, seed=1)
    data = PretrainingData(
        [{"images": scans}],
        scans.parent / "cache",
        window=(16, 16, 16),
        batch_size=2,
        steps_per_epoch=4,
        validation_windows=2,
        validation_fraction=0.25,
        seed=1,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=2,
        logger=TensorBoardLogger(output, name="", version="logs"),
        log_every_n_steps=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            ModelCheckpoint(
                output / "checkpoints",
                save_top_k=0,
                save_last=True,
                every_n_train_steps=4,
                enable_version_counter=False,
            ),
            ReconstructionPicture(output / "pictures"),
            ExportEncoder(output / "encoder.safetensors", "vit_tiny", {"data": ["blobs"]}),
        ],
        **trainer_arguments,
    )
    trainer.fit(module, datamodule=data, ckpt_path=find_checkpoint(output, resume), weights_only=True)
    return module


def logged(output: Path) -> EventAccumulator:
    events = EventAccumulator(str(output / "logs"), {"images": 0, "scalars": 0})
    return events.Reload()


@pytest.fixture(scope="module")
def whole_run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MAEModule]:
    output = tmp_path_factory.mktemp("whole")
    return output, train(scans, output, TOTAL_STEPS)


@pytest.mark.parametrize("cut", [4, 6])  # at the end of an epoch, and in the midst of one
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    cut: int, scans: Path, tmp_path: Path, whole_run: tuple[Path, MAEModule]
) -> None:
    output, module = whole_run
    train(scans, tmp_path, cut)
    resumed = train(scans, tmp_path, TOTAL_STEPS, resume="auto")
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, atol=1e-6, rtol=1e-5, msg=name)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["epoch_0001.png", "epoch_0002.png"]
    for tag in ("train_loss", "lr", "val_loss"):
        losses = {event.step: event.value for event in logged(output).Scalars(tag)}
        assert {event.step: event.value for event in logged(tmp_path).Scalars(tag)} == pytest.approx(losses, rel=1e-4)


def test_pictures_and_curves_are_written(whole_run: tuple[Path, MAEModule]) -> None:
    output, _ = whole_run
    pictures = sorted((output / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["epoch_0001.png", "epoch_0002.png"]
    assert all(picture.read_bytes()[:4] == b"\x89PNG" and picture.stat().st_size > 5000 for picture in pictures)
    events = logged(output)
    assert events.Tags()["images"] == ["reconstruction"]
    assert len(events.Scalars("val_loss")) == 2
    rates = [event.value for event in events.Scalars("lr")]
    assert rates[2] == max(rates) > rates[-1]


def test_exported_encoder_is_the_trained_one(whole_run: tuple[Path, MAEModule]) -> None:
    output, module = whole_run
    encoder = load_encoder(output / "encoder.safetensors")
    for name, weight in module.network.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], weight), name
    provenance = read_header(output / "encoder.safetensors")["provenance"]
    assert provenance["data"] == ["blobs"] and provenance["steps"] == TOTAL_STEPS and provenance["seed"] == 1
    assert provenance["val_loss"] > 0


def test_network_comes_back_from_a_checkpoint(whole_run: tuple[Path, MAEModule], tmp_path: Path) -> None:
    output, module = whole_run
    checkpoint = find_checkpoint(output, "auto")
    network = load_network(make_network(), checkpoint)
    assert torch.equal(network.head.weight, module.network.head.weight) and not network.training
    other = MaskedAutoencoder(create_encoder("vit_tiny"), decoder_dim=48, decoder_depth=1, decoder_heads=2)
    with pytest.raises(WeightsError, match=r"last\.ckpt: holds another network"):
        load_network(other, checkpoint)
    with pytest.raises(WeightsError, match="no such checkpoint"):
        load_network(other, tmp_path / "none.ckpt")


def test_resuming_is_automatic_or_off(whole_run: tuple[Path, MAEModule], tmp_path: Path) -> None:
    output, _ = whole_run
    assert find_checkpoint(output, "auto") == str(output / "checkpoints" / "last.ckpt")
    assert find_checkpoint(output, "never") is None
    assert find_checkpoint(tmp_path, "auto") is None
    with pytest.raises(ValueError, match="auto or never"):
        find_checkpoint(output, "always")
