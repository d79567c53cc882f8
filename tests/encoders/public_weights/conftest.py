"""Small networks of the original architectures, their features, and their checkpoints as those projects save them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.primus import Primus
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.segresnet_ds import SegResNetDS2
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.vista3d import VISTA3D, ClassMappingClassify, PointMappingSAM
from torch import Tensor, nn


@dataclass
class Original:
    """A network of another project.

    Attributes:
        names: of the catalogue's entries that such a network's checkpoint is imported under.
        network: the whole network, decoder and all.
        features: its encoder's maps of a window, finest first, caught while the whole network runs.
        checkpoint: what the project's training writes.
        arguments: of our encoder, for so small a network.
        window: sides of the window that features are compared on, in the order (x, y, z).
        reversed_axes: whether the project sees arrays as (z, y, x).
    """

    names: tuple[str, ...]
    network: nn.Module
    features: Callable[[Tensor], list[Tensor]]
    checkpoint: dict[str, Any]
    arguments: dict[str, Any]
    window: tuple[int, int, int] = (32, 32, 64)
    reversed_axes: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def caught(network: nn.Module, modules: list[nn.Module], run: Callable[[Tensor], Any]) -> Callable[[Tensor], list]:
    """Return a function that runs a network and returns what came out of some of its modules."""

    @torch.no_grad()
    def features(x: Tensor) -> list[Any]:
        network.eval()
        outputs: dict[int, Any] = {}
        hooks = [
            module.register_forward_hook(lambda _, __, out, n=n: outputs.__setitem__(n, out))
            for n, module in enumerate(modules)
        ]
        run(x)
        for hook in hooks:
            hook.remove()
        return [outputs[n] for n in range(len(modules))]

    return features


def shaken(network: nn.Module) -> nn.Module:
    """Move every weight, once where it has two names, so that none keeps a start that another network has too."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return network


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def nnssl_checkpoint(network: nn.Module, architecture: str, stem: str, encoder: str, prefix: str = "") -> dict:
    """A checkpoint as nnssl's trainer writes it, with its adaptation plan and what else lies in it."""
    return {
        "network_weights": prefixed(network.state_dict(), prefix),
        "nnssl_adaptation_plan": {
            "architecture_plans": {"arch_class_name": architecture, "arch_kwargs": None},
            "pretrain_plan": {"configurations": {"onemmiso": {"spacing": [1, 1, 1], "patch_size": [24, 16, 32]}}},
            "pretrain_num_input_channels": 1,
            "recommended_downstream_patchsize": [160, 160, 160],
            "key_to_encoder": prefix + encoder,
            "key_to_stem": prefix + stem,
            "keys_to_in_proj": [],
            "key_to_lpe": f"{prefix}eva.pos_embed" if encoder == "eva" else None,
        },
        "trainer_name": "BaseMAETrainer",
        "citations": ["Wald et al. 2025"],
    }


def primus() -> Original:
    window = (24, 16, 32)
    network = shaken(
        Primus(1, 48, (8, 8, 8), 2, 2, 4, input_shape=window, init_values=0.1, scale_attn_inner=True, drop_path_rate=0)
    )

    def maps(x: Tensor) -> list[Tensor]:
        tokens, _ = caught(network, [network.eva], network)(x)[0]
        return [tokens.transpose(1, 2).unflatten(2, [side // 8 for side in x.shape[2:]])]

    small = {"embed_dim": 48, "depth": 2, "num_heads": 4}
    names = ("openmind_primus_m_mae", "openmind_primus_m_simmim")
    checkpoint = nnssl_checkpoint(network, "PrimusM", "down_projection", "eva", prefix="encoder.")
    return Original(names, network, maps, checkpoint, small, window[::-1], reversed_axes=True)


def resenc(depth: int = 3) -> Original:
    features, blocks = [4, 6, 8][:depth], [1, 2, 2][:depth]
    network = shaken(
        ResidualEncoderUNet(
            1, depth, features, nn.Conv3d, 3, [1, 2, 2][:depth], blocks, 2, [1, 1][: depth - 1], True,
            nn.InstanceNorm3d, {"eps": 1e-5, "affine": True}, None, None, nn.LeakyReLU, {"inplace": True},
        )
    )  # fmt: skip
    checkpoint = nnssl_checkpoint(network, "ResEncL", "encoder.stem", "encoder.stages")
    small = {"features": features, "blocks": blocks}
    maps = caught(network, list(network.encoder.stages), network)
    return Original(("openmind_resenc_l_mae",), network, maps, checkpoint, small, (8, 12, 16), reversed_axes=True)


def swinunetr() -> Original:
    network = shaken(SwinUNETR(in_channels=1, out_channels=3, feature_size=12, num_heads=(3, 3, 3, 3)))

    def maps(x: Tensor) -> list[Tensor]:
        return caught(network, [network.swinViT], network.swinViT)(x)[0]  # its decoder is slow and adds nothing

    return Original(
        (), network, maps, {}, {"feature_size": 12, "num_heads": (3, 3, 3, 3)}, extra={"swin": network.swinViT}
    )


def suprem_swinunetr() -> Original:
    original = swinunetr()
    original.names = ("suprem_swinunetr", "clip_driven_swinunetr", "fseft_swinunetr")
    state = prefixed(original.network.state_dict(), "module.backbone.")
    state |= {"module.organ_embedding": torch.randn(25, 512), "module.controller.weight": torch.randn(4, 4, 1, 1, 1)}
    original.checkpoint = {"net": state, "epoch": 3, "optimizer": {"state": {}}}
    return original


def fseft_swinunetr() -> Original:
    original = swinunetr()
    original.names = ("fseft_swinunetr",)
    state = {name.replace("swinViT", "swin_vit"): value for name, value in original.network.state_dict().items()}
    original.checkpoint = {"state_dict": state}
    return original


def tang() -> Original:
    original = swinunetr()
    original.names = ("swinunetr_ssl_tang",)
    state = {name.replace("mlp.linear", "mlp.fc"): value for name, value in original.extra["swin"].state_dict().items()}
    heads = {"rotation_head.weight": torch.randn(4, 8), "contrastive_head.weight": torch.randn(4, 8)}
    original.checkpoint = {"state_dict": prefixed(state | heads, "module."), "epoch": 10}
    return original


def vista3d() -> Original:
    image_encoder = SegResNetDS2(
        in_channels=1, blocks_down=(1, 1, 2), norm="instance", out_channels=8, init_filters=8, dsdepth=1
    )
    heads = {
        "class_head": ClassMappingClassify(n_classes=8, feature_size=8, use_mlp=True),
        "point_head": PointMappingSAM(feature_size=8, n_classes=8, last_supported=4),
    }
    network = shaken(VISTA3D(image_encoder=image_encoder, **heads))

    def maps(x: Tensor) -> list[Tensor]:
        caught_maps = caught(network, [level["blocks"] for level in image_encoder.encoder.layers], image_encoder)(x)
        return caught_maps

    small = {"init_filters": 8, "blocks": (1, 1, 2)}
    return Original(("vista3d",), network, maps, network.state_dict(), small, (8, 12, 16))


def segresnet() -> Original:
    network = shaken(
        SegResNet(
            blocks_down=(1, 1, 2), blocks_up=(1, 1), init_filters=8, in_channels=1, out_channels=3, dropout_prob=0
        )
    )
    maps = caught(network, list(network.down_layers), network)
    checkpoint = {"net": prefixed(network.state_dict(), "module.")}
    return Original(
        ("suprem_segresnet",), network, maps, checkpoint, {"init_filters": 8, "blocks": (1, 1, 2)}, (8, 12, 16)
    )


class GenesisConvolution(nn.Module):
    """Convolution, batch norm by the statistics of the batch at hand, rectifier: the block of Models Genesis."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, width, 3, padding=1)
        self.bn1 = nn.BatchNorm3d(width)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        self.bn1.train()
        return self.activation(self.bn1(self.conv1(x)))


class GenesisDown(nn.Module):
    """A level of its U-Net."""

    def __init__(self, channels: int, width: int, pool: bool) -> None:
        super().__init__()
        self.ops = nn.Sequential(GenesisConvolution(channels, width), GenesisConvolution(width, 2 * width))
        self.maxpool = nn.MaxPool3d(2) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool(self.ops(x))


def genesis_unet() -> Original:
    width = 2
    levels = {
        f"down_tr{64 * 2**n}": GenesisDown(1 if n == 0 else width * 2**n, width * 2**n, pool=n < 3) for n in range(4)
    }
    network = nn.Sequential()
    for name, level in levels.items():
        network.add_module(name, level)
    network.add_module("up_tr256", nn.ConvTranspose3d(32, 4, 2, 2))
    shaken(network)
    maps = caught(network, [level.ops for level in levels.values()], network)
    checkpoint = {"net": prefixed(network.state_dict(), "module.backbone.")}
    return Original(("suprem_unet", "clip_driven_unet"), network, maps, checkpoint, {"width": width}, (16, 16, 24))


class STUNetBlock(nn.Module):
    """The residual block of STU-Net, by its paper's figure 2."""

    def __init__(self, channels: int, width: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv3d(channels, width, 3, stride, 1), nn.InstanceNorm3d(width, affine=True)
        self.conv2, self.norm2 = nn.Conv3d(width, width, 3, 1, 1), nn.InstanceNorm3d(width, affine=True)
        if shortcut:
            self.conv3 = nn.Conv3d(channels, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        y = self.norm2(self.conv2(y))
        return nn.functional.leaky_relu(y + (self.conv3(x) if hasattr(self, "conv3") else x), 0.01)


def stunet() -> Original:
    features = (4, 6, 8)
    stages = [
        nn.Sequential(STUNetBlock(channels, width, stride, True), STUNetBlock(width, width, 1, False))
        for channels, width, stride in zip((1, *features), features, (1, 2, 2), strict=False)
    ]
    network = nn.Sequential()
    context = nn.Sequential(*stages)
    network.add_module("conv_blocks_context", context)
    network.add_module("seg_outputs", nn.Sequential(nn.Conv3d(8, 2, 1)))
    shaken(network)
    maps = caught(network, stages, network)
    checkpoint = {"epoch": 4000, "state_dict": network.state_dict(), "best_stuff": None}
    small = {"features": features, "blocks": 2}
    return Original(("stunet_large", "stunet_huge"), network, maps, checkpoint, small, (8, 12, 16), reversed_axes=True)


ORIGINALS = {
    build.__name__: build
    for build in (*(primus, resenc, suprem_swinunetr, fseft_swinunetr, tang, vista3d, segresnet, genesis_unet, stunet),)
}


@pytest.fixture(params=ORIGINALS)
def original(request: pytest.FixtureRequest) -> Original:
    """Each of the original architectures in turn."""
    torch.manual_seed(0)
    return ORIGINALS[request.param]()


@pytest.fixture
def build_original() -> Callable[[str], Original]:
    """One of them by name."""

    def build(name: str, **options: Any) -> Original:
        torch.manual_seed(0)
        return ORIGINALS[name](**options)

    return build
