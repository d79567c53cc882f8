"""From cached features of the image and the prompts to a mask, cheap enough for each click."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medfm3d.segmentation.decoder import depth_to_space, space_to_depth
from medfm3d.segmentation.prompts.prompt_maps import CHANNELS

KEY_CHANNELS = 16
INITIAL_LOG_ODDS = -2.0  # most of a window is not what was meant


class MaskDecoder(nn.Module):
    """A small U-Net on prompts, into which the image's features enter at strides 2, 4 and 8.

    Prompts enter first and at full resolution, as channels, as in nnInteractive (Isensee et al. 2025, section 3), and
    not as tokens that attend to the image, as in SAM (Kirillov et al. 2023). What costs at full resolution is avoided
    as in `LightDecoder`: eight voxels become eight channels, and the logits come out the same way. How alike each place
    is to those pointed at is told by the cosine between learnt keys of the features: two channels, for foreground and
    background, so that one click reaches the whole window. Norms are over channels alone: those over space would make
    a click weigh more in a larger window.

    Args:
        feature_channels: channels of the image's features at strides 2, 4 and 8.
        image_channels: channels of the image.
        organs: number of known organ names.
        widths: channels at strides 2, 4, 8 and 16.
    """

    def __init__(
        self,
        feature_channels: Sequence[int],
        image_channels: int = 1,
        organs: int = 0,
        widths: Sequence[int] = (24, 48, 96, 128),
    ) -> None:
        super().__init__()
        fine, middle, coarse, deep = widths
        self.key = nn.Conv3d(feature_channels[0], KEY_CHANNELS, 1)
        self.enter = nn.Conv3d(8 * (len(CHANNELS) + image_channels) + 2, fine, 1)
        self.lateral2 = nn.Conv3d(feature_channels[0], fine, 1)
        self.lateral4 = nn.Conv3d(feature_channels[1], middle, 1)
        self.lateral8 = nn.Conv3d(feature_channels[2], coarse, 1)
        self.organ = nn.Embedding(1 + organs, deep)  # 0: no name, or one that is not known
        nn.init.zeros_(self.organ.weight)
        self.down2 = _Block(fine, fine)
        self.to4 = nn.Conv3d(fine, middle, 2, stride=2)
        self.down4 = _Block(middle, middle)
        self.to8 = nn.Conv3d(middle, coarse, 2, stride=2)
        self.down8 = _Block(coarse, coarse)
        self.to16 = nn.Conv3d(coarse, deep, 2, stride=2, padding=0)
        self.deep = nn.Sequential(_Block(deep, deep), _Block(deep, deep))
        self.from16 = nn.Conv3d(deep, coarse, 1)
        self.up8 = _Block(coarse, coarse)
        self.from8 = nn.Conv3d(coarse, middle, 1)
        self.up4 = _Block(middle, middle)
        self.from4 = nn.Conv3d(middle, fine, 1)
        self.up2 = _Block(fine, fine)
        self.logits = nn.Conv3d(fine, 8, 3, padding=1)
        nn.init.constant_(self.logits.bias, INITIAL_LOG_ODDS)

    def forward(self, image: Tensor, features: Sequence[Tensor], maps: Tensor, organ: Tensor | None = None) -> Tensor:
        """Return logits, (B, 1, D, H, W).

        Args:
            image: (B, C, D, H, W), sides multiples of 8.
            features: of that image at strides 2, 4 and 8; a batch of one is shared by all prompts.
            maps: prompts, (B, 4, D, H, W) as `stacked_maps` gives.
            organ: number of each prompt's organ, (B,); 0, or None for all: not known.
        """
        count = len(maps)
        f2, f4, f8 = features
        keys = F.normalize(self.key(f2).float(), dim=1)
        alike = [_similarity(keys, F.avg_pool3d(maps[:, [channel]], 2)) for channel in (0, 1)]
        shown = space_to_depth(torch.cat([image.expand(count, -1, -1, -1, -1), maps], dim=1))
        x2 = self.down2(self.enter(torch.cat([shown, *alike], dim=1)) + self.lateral2(f2))
        x4 = self.down4(self.to4(x2) + self.lateral4(f4))
        x8 = self.down8(self.to8(x4) + self.lateral8(f8))
        # In bfloat16 oneDNN's gradient of a convolution on 2 x 2 x 3 voxels is not finite (torch 2.14, AVX512-BF16).
        with torch.autocast(x8.device.type, enabled=False):
            x16 = self.to16(_even(x8.float()))
            if organ is not None:
                x16 = x16 + self.organ(organ)[:, :, None, None, None]
            x16 = self.from16(self.deep(x16))
        x8 = self.up8(x8 + _upsampled(x16, x8))
        x4 = self.up4(x4 + _upsampled(self.from8(x8), x4))
        x2 = self.up2(x2 + _upsampled(self.from4(x4), x2))
        return depth_to_space(self.logits(x2)).float()


class ChannelNorm(nn.Module):
    """Divide each voxel's channels by their root mean square (Zhang and Sennrich 2019), and scale them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, D, H, W) normed."""
        scale = x.square().mean(dim=1, keepdim=True).add(1e-4).rsqrt()
        return x * scale * self.weight[:, None, None, None]


class _Block(nn.Module):
    """Residual: norm, convolution, activation, and a step between channels."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv = nn.Conv3d(channels, hidden, 3, padding=1)
        self.mix = nn.Conv3d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.leaky_relu(self.conv(self.norm(x)), 0.01))


def _similarity(keys: Tensor, weights: Tensor) -> Tensor:
    """Return the cosine, (B, 1, d, h, w), to the mean key where the weights (B, 1, d, h, w) are; 0 without weights."""
    mean = (keys * weights).sum(dim=(2, 3, 4), keepdim=True)
    return (keys * F.normalize(mean, dim=1)).sum(dim=1, keepdim=True)


def _even(x: Tensor) -> Tensor:
    """Continue the last layer of axes with an odd number of voxels."""
    odd = [side % 2 for side in x.shape[2:]]
    return F.pad(x, [0, odd[2], 0, odd[1], 0, odd[0]], mode="replicate") if any(odd) else x


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    """Return the map at twice the resolution, cut to the size of another."""
    x = F.interpolate(x, scale_factor=2, mode="trilinear")
    d, h, w = like.shape[2:]
    return x[:, :, :d, :h, :w]
