"""Convolutional encoders: the stages of a network as a feature pyramid."""

from collections.abc import Sequence

from torch import Tensor, nn

from medfm3d.encoders.encoder import Encoder


class StageSequence(nn.Module):
    """A stem and stages, one behind the other; the output of each stage is kept.

    Args:
        stem: in front of the first stage.
        stages: each from the output of the one before.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the output of every stage, first to last."""
        outputs = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class ConvolutionalEncoder(Encoder):
    """A convolutional network whose stages are the maps of the pyramid, from stride 1 on.

    Its kernels reach from one mask unit into the next, so that it cannot encode visible units alone: pretrain a
    vision or Swin transformer for that.

    Args:
        network: window (B, C, D, H, W) to a list of maps, finest first.
        depths: the modules that hold the network's weights, shallow first, each weight in one of them.
        in_channels: channels of the input.
        channels: channels of each map.
        strides: stride of each map; from 1 on, doubling from map to map, if None.
    """

    supports_visible = False

    def __init__(
        self,
        network: nn.Module,
        depths: Sequence[Sequence[nn.Module]],
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.in_channels = in_channels
        self.channels = tuple(channels)
        self.strides = tuple(2**n for n in range(len(self.channels))) if strides is None else tuple(strides)
        self.patch_size = (self.strides[-1],) * 3
        self.embed_dim = self.token_dim = self.channels[-1]
        self._depths = tuple(tuple(modules) for modules in depths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the output of every stage; see `Encoder.forward`."""
        self.check_input(x)
        if x[0, 0].numel() == self.strides[-1] ** 3:  # no norm over the voxels of a single one
            raise ValueError(
                f"window {tuple(x.shape[2:])} is one voxel at the coarsest stride of {type(self).__name__}, "
                f"{self.strides[-1]}: choose one that is larger along an axis"
            )
        return self.network(x)

    def forward_visible(self, x: Tensor, mask: Tensor) -> Tensor:
        """Raise ValueError: see `Encoder.supports_visible`."""
        raise ValueError(
            f"{type(self).__name__} is convolutional and cannot encode visible units alone: use a ViT or Swin encoder "
            "for masked pretraining"
        )

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the weights stage by stage, the stem with the first; see `Encoder.layers`."""
        return [[p for module in modules for p in module.parameters()] for modules in self._depths]
