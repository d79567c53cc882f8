"""The network that joins encoder, decoder, adapter and classifier."""

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from medfm3d.encoders import WeightsError, file_sha256, save_encoder, save_weights
from medfm3d.segmentation import (
    LightDecoder,
    Segmenter,
    depth_to_space,
    load_pretrained,
    resolve_device,
    resolve_precision,
    space_to_depth,
)

TINY = {"embed_dim": 48, "depth": 2, "num_heads": 4, "out_layers": (0, 1)}


def tiny_segmenter(adapter: str = "decoder", precision: str = "float32") -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(
        ["liver", "spleen"],
        encoder_arguments=TINY,
        adapter=adapter,
        widths=(8, 12, 16),
        feature_channels=6,
        precision=precision,
    ).eval()


def test_logits_cover_the_window() -> None:
    segmenter = tiny_segmenter()
    x = torch.randn(2, 1, 16, 24, 32)
    logits = segmenter(x)
    assert logits.shape == (2, 3, 16, 24, 32) and logits.dtype == torch.float32
    torch.testing.assert_close(segmenter.classify(segmenter.features(x)), logits)
    assert type(segmenter(MetaTensor(x))) is torch.Tensor


def test_it_runs_under_monais_inferer_and_its_state_loads(tmp_path: Path) -> None:
    segmenter = tiny_segmenter()
    x = torch.randn(1, 1, 30, 21, 40)
    inferer = SlidingWindowInferer((16, 16, 16), overlap=0.25)
    with torch.no_grad():
        logits = inferer(x, segmenter)
        assert logits.shape == (1, 3, 30, 21, 40)
        torch.save(segmenter.state_dict(), tmp_path / "model.pt")
        other = tiny_segmenter()
        other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
        assert torch.equal(inferer(x, other), logits)


def test_bfloat16_stays_near_float32() -> None:
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        full, half = tiny_segmenter()(x), tiny_segmenter(precision="bfloat16")(x)
    assert half.dtype == torch.float32
    assert (full - half).abs().max() < 0.1 * full.abs().max()


def test_channels_last_changes_neither_logits_nor_what_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    x, logits, slopes = torch.randn(2, 1, 16, 24, 16, generator=torch.Generator().manual_seed(1)), [], []
    for enabled in (True, False):
        monkeypatch.setattr("medfm3d.segmentation.decoder._is_bfloat16_on_cpu", lambda x, enabled=enabled: enabled)
        network = tiny_segmenter(precision="bfloat16")
        logits.append(network(x))
        logits[-1].pow(2).mean().backward()
        slopes.append(network.decoder.merge4[0].weight.grad)
        assert logits[-1].is_contiguous() and logits[-1].dtype is torch.float32
    torch.testing.assert_close(logits[0], logits[1], atol=0.02, rtol=0.02)
    torch.testing.assert_close(slopes[0], slopes[1], atol=0.03 * float(slopes[1].abs().max()), rtol=0.03)


def test_every_voxel_of_the_image_matters() -> None:
    """The sub-pixel output reaches single voxels: each one's logits depend on its own intensity."""
    segmenter = tiny_segmenter()
    x = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    segmenter(x)[:, 1].sum().backward()
    assert (x.grad != 0).all()


def test_space_to_depth_is_undone_by_depth_to_space() -> None:
    x = torch.randn(2, 3, 4, 6, 8)
    y = space_to_depth(x)
    assert y.shape == (2, 24, 2, 3, 4)
    assert torch.equal(y[0, :8, 0, 0, 0], x[0, 0, :2, :2, :2].flatten())
    assert torch.equal(depth_to_space(y), x)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="one organ"):
        Segmenter([])
    with pytest.raises(ValueError, match="int8"):
        Segmenter(["liver"], precision="int8")
    with pytest.raises(ValueError, match="powers of two"):
        LightDecoder([4], [3])
    for device in ("tpu", "cuda:99", "mps"):
        with pytest.raises(ValueError, match="device"):
            resolve_device(device)
    assert resolve_device("cpu").type == "cpu"
    assert resolve_precision("float32", torch.device("cpu")) is torch.float32


def test_pretrained_parts_load_and_must_belong_together(tmp_path: Path) -> None:
    source = tiny_segmenter()
    encoder = save_encoder(source.encoder, tmp_path / "encoder.safetensors", name="vit_tiny", arguments=TINY)
    other = save_encoder(tiny_segmenter().encoder, tmp_path / "other.safetensors", name="vit_tiny")
    decoder = save_weights(
        source.decoder,
        tmp_path / "decoder.safetensors",
        architecture="light_decoder",
        provenance={"encoder_sha256": file_sha256(encoder)},
    )
    torch.manual_seed(1)
    target = Segmenter(
        ["a"],
        encoder_arguments=TINY,
        adapter="box-adapter",
        widths=(8, 12, 16),
        feature_channels=6,
        precision="float32",
    ).eval()
    x = torch.randn(1, 1, 16, 16, 16)
    load_pretrained(target, encoder, decoder)
    torch.testing.assert_close(target.features(x), source.features(x))
    assert {name.split(".")[0] for name, p in target.named_parameters() if p.requires_grad} == {"adapter", "classifier"}
    with pytest.raises(WeightsError, match="another encoder"):
        load_pretrained(target, other, decoder)
    with pytest.raises(WeightsError, match="box-adapter"):
        load_pretrained(target, encoder)


def test_an_untrained_network_calls_organs_rare() -> None:
    """With equal odds the Dice loss of a small organ is flat at the start, so few steps do not find it."""
    with torch.no_grad():
        probabilities = tiny_segmenter()(torch.randn(1, 1, 16, 16, 16)).softmax(dim=1)
    assert probabilities[:, 0].mean() > 0.9
    assert (probabilities[:, 1:].mean(dim=(0, 2, 3, 4)) < 0.05).all()
