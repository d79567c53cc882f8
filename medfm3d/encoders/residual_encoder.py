"""The residual encoder of nnU-Net's ResEnc presets."""

from collections.abc import Sequence

from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import nn

from medfm3d.encoders.convolutional import ConvolutionalEncoder


class ResEncEncoder(ConvolutionalEncoder):
    """Encoder of `ResidualEncoderUNet`, with isotropic kernels and strides as OpenMind's ResEnc-L has them.

    Source: Isensee et al. 2024, "nnU-Net Revisited" (arXiv 2404.09556); Wald et al. 2025, OpenMind (arXiv 2412.17041).

    Args:
        in_channels: channels of the input.
        features: channels of each stage.
        blocks: residual blocks of each stage.
    """

    def __init__(
        self,
        in_channels: int = 1,
        features: Sequence[int] = (32, 64, 128, 256, 320, 320),
        blocks: Sequence[int] = (1, 3, 4, 6, 6, 6),
    ) -> None:
        network = ResidualEncoder(
            input_channels=in_channels,
            n_stages=len(features),
            features_per_stage=list(features),
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=[1] + [2] * (len(features) - 1),
            n_blocks_per_stage=list(blocks),
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            return_skips=True,
        )
        _drop_second_names(network)
        first, *deeper = network.stages
        super().__init__(network, [[network.stem, first], *([stage] for stage in deeper)], in_channels, features)


def _drop_second_names(network: nn.Module) -> None:
    """Leave each weight one name: the library's blocks hold every layer twice, alone and in `all_modules`."""
    for module in network.modules():
        if isinstance(module, ConvDropoutNormReLU):
            for name in ("conv", "dropout", "norm", "nonlin"):
                if name in module._modules:
                    delattr(module, name)
