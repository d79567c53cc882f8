"""Convolutional encoders and the change of scale in front of any keep the contract, and feed the decoder."""

import pytest
import torch

from medfm3d.encoders import RescaledEncoder, check_encoder, create_encoder
from medfm3d.pretraining import MaskedAutoencoder
from medfm3d.segmentation import LightDecoder, Segmenter

SMALL = {
    "resenc_large": {"features": (4, 6, 8), "blocks": (1, 1, 2)},
    "stunet_base": {"features": (4, 6, 8)},
    "segresnet": {"init_filters": 8, "blocks": (1, 1, 1)},
    "vista3d": {"init_filters": 4, "blocks": (1, 1, 1)},
    "unet3d": {"width": 2},
    "primus_small": {"embed_dim": 48, "depth": 2, "num_heads": 4, "absolute_window": (16, 16, 16)},
}
INTENSITY = {"scale": 0.2, "shift": 0.4, "low": 0.0, "high": 1.0}


@pytest.mark.parametrize("name", SMALL)
def test_they_keep_the_contract(name: str) -> None:
    encoder = create_encoder(name, **SMALL[name])
    check_encoder(encoder, tolerance=1e-4)
    assert encoder.supports_visible == name.startswith("primus")
    if not encoder.supports_visible:
        assert encoder.strides[0] == 1 and len(encoder.layers()) == len(encoder.strides)


@pytest.mark.parametrize("name", ["segresnet", "primus_small"])
def test_a_change_of_scale_in_front_keeps_it_too(name: str) -> None:
    torch.manual_seed(0)
    encoder = create_encoder(name, input_intensity=INTENSITY, **SMALL[name]).eval()
    assert isinstance(encoder, RescaledEncoder)
    check_encoder(encoder, tolerance=1e-4)
    x = torch.linspace(-6, 6, 16**3).view(1, 1, 16, 16, 16)
    with torch.no_grad():
        for ours, plain in zip(encoder(x), encoder.encoder((0.2 * x + 0.4).clamp(0, 1)), strict=True):
            assert torch.equal(ours, plain)


def test_masked_pretraining_of_a_convolutional_encoder_is_refused() -> None:
    network = MaskedAutoencoder(create_encoder("segresnet", **SMALL["segresnet"]))
    x = torch.randn(1, 1, 16, 16, 16)
    with pytest.raises(ValueError, match=r"SegResNetEncoder is convolutional .* use a ViT or Swin"):
        network.loss(x, torch.zeros(1, 64, dtype=torch.bool))


def test_a_window_of_one_coarse_voxel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4, 4\) is one voxel at the coarsest stride of ResEncEncoder"):
        create_encoder("resenc_large", **SMALL["resenc_large"])(torch.zeros(1, 1, 4, 4, 4))


def test_maps_of_stride_one_reach_the_decoder_voxel_by_voxel() -> None:
    """Each voxel of a stride-1 map has a weight of its own, so that none is lost on the way to stride 2."""
    torch.manual_seed(0)
    decoder = LightDecoder([3], [1], widths=(4, 4, 4), feature_channels=2).eval()
    x, fine = torch.randn(1, 1, 16, 16, 16), torch.zeros(1, 3, 16, 16, 16)
    with torch.no_grad():
        plain = decoder(x, [fine])
        for place in ((0, 0, 0), (1, 0, 1), (1, 1, 1)):
            changed = fine.clone()
            changed[(0, 1, *place)] = 5.0
            assert not torch.allclose(decoder(x, [changed]), plain)
    with pytest.raises(ValueError, match="powers of two"):
        LightDecoder([3], [3])


@pytest.mark.parametrize("name", ["resenc_large", "unet3d"])
def test_a_segmenter_learns_through_all_of_it(name: str) -> None:
    segmenter = Segmenter(["liver"], encoder=name, encoder_arguments=SMALL[name], adapter="full", precision="float32")
    segmenter(torch.randn(1, 1, 16, 24, 16)).square().mean().backward()
    assert not [key for key, weight in segmenter.named_parameters() if weight.grad is None]
