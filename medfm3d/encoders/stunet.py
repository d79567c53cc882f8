"""The encoder of STU-Net."""

from collections.abc import Sequence

from torch import Tensor, nn

from medfm3d.encoders.convolutional import ConvolutionalEncoder, StageSequence


class StridedResidualBlock(nn.Module):
    """Two convolutions with instance norms, and a bare strided 1 x 1 x 1 convolution around them.

    Library blocks put a norm or a pooling step into the shortcut, or no activation behind the sum; the published
    weights fit none of them. Names are those of the published weights.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution and the shortcut.
        projected: whether the shortcut is a convolution; else the input is added as it is.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, projected: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride, padding=1)
        self.norm1 = nn.InstanceNorm3d(out_channels, affine=True)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        self.norm2 = nn.InstanceNorm3d(out_channels, affine=True)
        self.conv3 = nn.Conv3d(in_channels, out_channels, 1, stride) if projected else nn.Identity()
        self.act = nn.LeakyReLU(0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (B, out_channels, D / stride, H / stride, W / stride)."""
        inner = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(inner + self.conv3(x))


class STUNetEncoder(ConvolutionalEncoder):
    """Encoder of STU-Net, trained on TotalSegmentator's labels.

    Source: Huang et al. 2023, "STU-Net: Scalable and Transferable Medical Image Segmentation Models Empowered by
    Large-Scale Supervised Pre-training" (arXiv 2304.06716).

    Args:
        in_channels: channels of the input.
        features: channels of each stage.
        blocks: residual blocks of each stage.
    """

    def __init__(
        self, in_channels: int = 1, features: Sequence[int] = (32, 64, 128, 256, 512, 512), blocks: int = 1
    ) -> None:
        stages, channels = [], in_channels
        for number, width in enumerate(features):
            first = StridedResidualBlock(channels, width, 1 if number == 0 else 2, projected=True)
            stages.append(nn.Sequential(first, *(StridedResidualBlock(width, width) for _ in range(blocks - 1))))
            channels = width
        network = StageSequence(nn.Identity(), stages)
        super().__init__(network, [[stage] for stage in stages], in_channels, features)
