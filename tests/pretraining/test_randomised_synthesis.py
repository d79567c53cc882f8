"""Images from label maps, the contrast between voxels, and training on them."""

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from medfm3d.encoders import ViTEncoder, file_sha256, load_encoder, read_header
from medfm3d.pretraining import (
    ExportEncoderAndDecoder,
    LabelMapCohort,
    RandomisedSynthesis,
    SynthesisData,
    SynthesisDataset,
    random_shapes,
    synthesise_image,
    voxel_contrastive_loss,
)
from medfm3d.segmentation import LightDecoder
from medfm3d.volumes import Volume, VolumeError, reorient, write_volume

WINDOW = (16, 24, 16)


@pytest.fixture(scope="module")
def label_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two label maps, stored in other orientations than RAS: 40 inside 7 inside background, and 9 on the right."""
    folder = tmp_path_factory.mktemp("label maps")
    for index, orientation in enumerate(("LIA", "RAS")):
        array = np.zeros((30, 34, 28), dtype=np.uint8)
        array[6:20, 8:26, 6:22] = 7
        array[10:16, 12:20, 10:18] = 40
        array[22:28, 10:20, 8 + index : 20] = 9
        write_volume(reorient(Volume(array, np.eye(4)), orientation), folder / f"map_{index}.nii.gz")
    return folder


def test_cohorts_number_their_labels_and_merge_those_that_must_not_be_learnt(label_maps: Path) -> None:
    cohort = LabelMapCohort(label_maps)
    assert cohort.channels == 4 and cohort.name == label_maps.name
    assert [int(m[0, 12, 14, 12]) for m in cohort.maps] == [3, 3]  # 0, 7, 9, 40 in this order, oriented alike
    assert [int(m[0, 24, 12, 12]) for m in cohort.maps] == [2, 2]
    merged = LabelMapCohort(label_maps, merged={"40": 7})
    assert merged.channels == 3
    assert torch.equal(merged.maps[0] == 1, (cohort.maps[0] == 1) | (cohort.maps[0] == 3))
    assert LabelMapCohort().channels == 0


def test_cohorts_without_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="no label map"):
        LabelMapCohort(tmp_path).channels  # noqa: B018 (a property that reads)
    with pytest.raises(ValueError, match="zoom"):
        LabelMapCohort(tmp_path, zoom=(2.0, 1.0))


def test_windows_follow_from_their_number(label_maps: Path) -> None:
    cohorts = [LabelMapCohort(label_maps, 1.0), LabelMapCohort(None, 1.0)]
    dataset, again = (SynthesisDataset(cohorts, WINDOW, seed=3, stream=0) for _ in range(2))
    sources = set()
    for number in range(12):
        item, same = dataset[number], again[number]
        assert item["image"].shape == (2, 1, *WINDOW) and item["label"].shape == WINDOW
        assert torch.equal(item["image"], same["image"]) and torch.equal(item["label"], same["label"])
        assert not torch.equal(item["image"][0], item["image"][1])
        assert len(item["label"].unique()) > 1
        sources.add(item["source"])
    assert sources == {0, 1}
    other = SynthesisDataset(cohorts, WINDOW, seed=3, stream=1)
    assert any(not torch.equal(other[n]["label"], dataset[n]["label"]) for n in range(3))


def test_images_are_standardised_and_show_the_labels() -> None:
    explained = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        label = random_shapes((24, 24, 24), rng)
        image = synthesise_image(label, rng)
        assert image.shape == (1, 24, 24, 24) and torch.isfinite(image).all()
        assert abs(float(image.mean())) < 0.1 and 0.8 < float(image.std()) < 1.1
        flat, names = image.flatten(), label.flatten()
        within = sum(float((flat[names == n] - flat[names == n].mean()).square().sum()) for n in names.unique())
        explained.append(1 - within / float((flat - flat.mean()).square().sum()))
    assert np.mean(explained) > 0.2  # the share of variance that the label map explains; 0 for noise


def test_contrastive_loss_is_that_of_the_formula() -> None:
    torch.manual_seed(0)
    label = torch.zeros(2, 2, 2, dtype=torch.long)
    label[1] = 1
    # One voxel a label is drawn at a time; with constant embeddings within labels it does not matter which.
    views = torch.zeros(2, 3, 2, 2, 2)
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0.6, 0.8, 0])
    views[:, :, 0], views[:, :, 1] = a.view(1, 3, 1, 1), b.view(1, 3, 1, 1)
    loss = voxel_contrastive_loss(views, label, torch.Generator().manual_seed(0), per_label=1, temperature=0.5)
    # Each of the four voxels has one positive (similarity 1) and two negatives (0.6).
    expected = np.log(np.exp(1 / 0.5) + 2 * np.exp(0.6 / 0.5)) - 1 / 0.5
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    views[:, :, 1] = a.view(1, 3, 1, 1)
    alike = voxel_contrastive_loss(views, label, torch.Generator().manual_seed(0), per_label=1, temperature=0.5)
    assert alike > loss
    assert voxel_contrastive_loss(views, torch.zeros_like(label), torch.Generator()).item() == 0


def synthesis(label_maps: Path, **arguments: object) -> tuple[RandomisedSynthesis, SynthesisData]:
    data = SynthesisData(
        [{"labels": str(label_maps)}, {"labels": None}], WINDOW, steps_per_epoch=30, validation_windows=2, seed=1
    )
    torch.manual_seed(0)
    encoder = ViTEncoder(embed_dim=48, depth=2, num_heads=2)
    decoder = LightDecoder(encoder.channels, encoder.strides, widths=(8, 12, 16), feature_channels=8)
    return RandomisedSynthesis(encoder, decoder, 8, data.channels, total_steps=30, **arguments), data


def test_training_learns_and_exports_a_pair_that_belongs_together(label_maps: Path, tmp_path: Path) -> None:
    module, data = synthesis(label_maps, learning_rate=5e-3)
    before = {name: weight.clone() for name, weight in module.encoder.named_parameters()}
    export = ExportEncoderAndDecoder(tmp_path / "e.safetensors", tmp_path / "d.safetensors", "vit_tiny", {"k": 1})
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=30, callbacks=[export], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    (untrained,) = trainer.validate(module, datamodule=data, verbose=False)
    trainer.fit(module, datamodule=data)
    (trained,) = trainer.validate(module, datamodule=data, verbose=False)
    for part in ("val_contrast", "val_segmentation"):
        assert trained[part] < untrained[part]
    assert any(not torch.equal(before[name], weight) for name, weight in module.encoder.named_parameters())
    header = read_header(tmp_path / "d.safetensors")["provenance"]
    assert header["encoder_sha256"] == file_sha256(tmp_path / "e.safetensors")
    assert header["method"] == "randomised synthesis" and header["steps"] == 30 and header["k"] == 1
    assert header["val_loss"] > 0 and header["val_segmentation"] > 0


def test_a_frozen_encoder_stays_as_it_was(label_maps: Path) -> None:
    module, _ = synthesis(label_maps, encoder_learning_rate=0.0)
    trained = {id(p) for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert not any(id(p) in trained for p in module.encoder.parameters())
    assert all(id(p) in trained for p in module.decoder.parameters())


@pytest.mark.slow
def test_the_bundle_trains_on_label_maps(label_maps: Path, tmp_path: Path, repository: Path) -> None:
    from medfm3d.inference import bundle_template, run_workflow

    overrides = {
        "dataset_dir": str(label_maps), "output_dir": str(tmp_path / "out"), "device": "cpu", "window": [16, 16, 16],
        "max_steps": 2, "steps_per_epoch": 2, "validation_windows": 2, "progress_bar": False,
    }  # fmt: skip
    run_workflow(bundle_template("mae_vit_pretraining"), ("train", "train_synthesis"), overrides)
    assert load_encoder(tmp_path / "out" / "encoder.safetensors")(torch.zeros(1, 1, 16, 16, 16))[0].shape[1] == 192
    again = {
        **overrides, "output_dir": str(tmp_path / "again"), "max_steps": 1,
        "encoder_start": str(tmp_path / "out" / "encoder.safetensors"),
        "decoder_start": str(tmp_path / "out" / "decoder.safetensors"),
    }  # fmt: skip
    run_workflow(bundle_template("mae_vit_pretraining"), ("train", "train_synthesis"), again)
    header = read_header(tmp_path / "again" / "decoder.safetensors")["provenance"]
    assert header["decoder_start"]["steps"] == 2
