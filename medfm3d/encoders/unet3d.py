"""The encoder of the plain 3D U-Net that Models Genesis made known."""

from torch import nn

from medfm3d.encoders.convolutional import ConvolutionalEncoder, StageSequence


class UNet3DEncoder(ConvolutionalEncoder):
    """Four levels of two convolutions, with pooling between them.

    The published networks normalise by the statistics of the batch even when they predict, so that a window's features
    would hang on the windows beside it. Here each window has statistics of its own: what they give for one window.

    Source: Zhou et al. 2021, "Models Genesis"; weights by Liu et al. 2023 (CLIP-Driven Universal Model) and Li et al.
    2024 (SuPreM).

    Args:
        in_channels: channels of the input.
        width: channels of the first convolution.
    """

    def __init__(self, in_channels: int = 1, width: int = 32) -> None:
        stages, channels = [], in_channels
        for level in range(4):
            inner, outer = width * 2**level, width * 2 ** (level + 1)
            pool = nn.Identity() if level == 0 else nn.MaxPool3d(2)
            stages.append(nn.Sequential(pool, _convolution(channels, inner), _convolution(inner, outer)))
            channels = outer
        network = StageSequence(nn.Identity(), stages)
        super().__init__(network, [[stage] for stage in stages], in_channels, [width * 2 ** (n + 1) for n in range(4)])


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, padding=1), nn.InstanceNorm3d(out_channels, affine=True), nn.ReLU()
    )
