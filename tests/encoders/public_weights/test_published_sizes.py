"""At the sizes that were published, without values: each tensor of an entry's encoder has its place in the file."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from dynamic_network_architectures.architectures.primus import PrimusM
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.vista3d import vista3d132
from torch import nn

from medfm3d.encoders import create_encoder
from medfm3d.encoders.public_weights import catalogue_entry
from medfm3d.encoders.public_weights.fitting import fit_tensors
from medfm3d.encoders.public_weights.key_mapping import map_names


def resenc_l() -> nn.Module:
    """As nnssl builds what its adaptation plans call ResEncL."""
    strides, features = [1, 2, 2, 2, 2, 2], [32, 64, 128, 256, 320, 320]
    return ResidualEncoderUNet(
        1, 6, features, nn.Conv3d, 3, strides, [1, 3, 4, 6, 6, 6], 1, [1] * 5, True,
        nn.InstanceNorm3d, {"eps": 1e-5, "affine": True}, None, None, nn.LeakyReLU, {"inplace": True},
    )  # fmt: skip


@cache
def swinunetr() -> nn.Module:
    return SwinUNETR(in_channels=1, out_channels=14, feature_size=48)


def segresnet() -> nn.Module:
    return SegResNet(init_filters=16, in_channels=1, out_channels=32, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1))


PUBLISHED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "openmind_primus_m_mae": (lambda: PrimusM(1, 1, (8, 8, 8), (160, 160, 160)), ""),
    "openmind_resenc_l_mae": (resenc_l, ""),
    "swinunetr_ssl_tang": (lambda: swinunetr().swinViT, "module."),
    "suprem_swinunetr": (swinunetr, "module.backbone."),
    "clip_driven_swinunetr": (swinunetr, "module.backbone."),
    "fseft_swinunetr": (swinunetr, ""),
    "suprem_segresnet": (segresnet, "module."),
    "vista3d": (vista3d132, ""),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_network_fills_the_encoder(name: str) -> None:
    build, prefix = PUBLISHED[name]
    entry = catalogue_entry(name)
    with torch.device("cpu" if "swin" in name else "meta"):  # MONAI's Swin cannot be built without values
        # Of layers that have two names one is left: tensors without values cannot be compared.
        tensors = {prefix + key: value for key, value in build().state_dict().items() if ".all_modules." not in key}
    with torch.device("meta"):
        encoder = create_encoder(entry.encoder["architecture"], **entry.encoder["arguments"])
    mapped = map_names(tensors, entry.checkpoint)
    fit = fit_tensors(encoder, mapped.taken, (), mapped.unexpected)
    assert fit.share == 1 and not (fit.missing or fit.reshaped or fit.unexpected or fit.adapted), fit.summary()
    assert bool(mapped.ignored) == (name != "swinunetr_ssl_tang"), "the decoder is known and left out"
