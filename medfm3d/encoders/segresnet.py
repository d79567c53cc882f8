"""The encoders of MONAI's SegResNet and of VISTA3D."""

from collections.abc import Sequence

from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.segresnet_ds import SegResEncoder

from medfm3d.encoders.convolutional import ConvolutionalEncoder, StageSequence


class SegResNetEncoder(ConvolutionalEncoder):
    """Encoder of MONAI's `SegResNet`.

    Source: Myronenko 2018, "3D MRI brain tumor segmentation using autoencoder regularization" (arXiv 1810.11654).

    Args:
        in_channels: channels of the input.
        init_filters: channels at stride 1; they double from stage to stage.
        blocks: residual blocks of each stage.
    """

    def __init__(self, in_channels: int = 1, init_filters: int = 16, blocks: Sequence[int] = (1, 2, 2, 4)) -> None:
        whole = SegResNet(init_filters=init_filters, in_channels=in_channels, blocks_down=tuple(blocks))
        network = StageSequence(whole.convInit, list(whole.down_layers))
        first, *deeper = network.stages
        depths = [[network.stem, first], *([stage] for stage in deeper)]
        super().__init__(network, depths, in_channels, [init_filters * 2**n for n in range(len(blocks))])


class VISTA3DEncoder(ConvolutionalEncoder):
    """Image encoder of VISTA3D, the encoder half of MONAI's `SegResNetDS2`.

    Source: He et al. 2024, "VISTA3D" (arXiv 2406.05285).

    Args:
        in_channels: channels of the input.
        init_filters: channels at stride 1; they double from stage to stage.
        blocks: residual blocks of each stage.
    """

    def __init__(self, in_channels: int = 1, init_filters: int = 48, blocks: Sequence[int] = (1, 2, 2, 4, 4)) -> None:
        network = SegResEncoder(
            init_filters=init_filters, in_channels=in_channels, norm="instance", blocks_down=tuple(blocks)
        )
        first, *deeper = network.layers
        depths = [[network.conv_init, first], *([level] for level in deeper)]
        super().__init__(network, depths, in_channels, [init_filters * 2**n for n in range(len(blocks))])
