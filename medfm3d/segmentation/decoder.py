"""A convolutional decoder fit for CPUs: full-resolution features from an encoder's pyramid and the image itself."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LightDecoder(nn.Module):
    """Feature pyramid and image to features at full resolution, with almost no convolution at full resolution.

    A transformer's tokens say what is where, but not where exactly: a *detail path* of a few convolutions on the image
    keeps the edges, as in a U-Net. Full-resolution convolutions are what costs on a CPU, so the detail path
    starts at stride 2 after a space-to-depth step (eight voxels become eight channels) and ends by its inverse, the
    sub-pixel convolution of Shi et al. 2016. On two cores a 40 x 56 x 40 window trains at about 0.1 s.

    Maps of the pyramid enter at their own stride; coarser ones than stride 8 are interpolated to stride 8, and those of
    stride 1, which convolutional encoders have, enter at stride 2 with nothing lost, by a space-to-depth step too.

    Args:
        encoder_channels: channels of the pyramid's maps.
        encoder_strides: their strides, finest first; powers of two.
        in_channels: channels of the image.
        widths: channels at strides 2, 4 and 8.
        feature_channels: channels of the full-resolution output.

    Raises:
        ValueError: if a stride is not a power of two.
    """

    LEVELS = (2, 4, 8)

    def __init__(
        self,
        encoder_channels: Sequence[int],
        encoder_strides: Sequence[int],
        in_channels: int = 1,
        widths: Sequence[int] = (48, 64, 96),
        feature_channels: int = 16,
    ) -> None:
        super().__init__()
        for stride in encoder_strides:
            if stride < 1 or stride & (stride - 1):
                raise ValueError(f"encoder strides must be powers of two, got {tuple(encoder_strides)}")
        self.in_channels = in_channels
        self.feature_channels = feature_channels
        self.encoder_strides = tuple(encoder_strides)
        self.entry_levels = tuple(min(max(stride, 2), 8) for stride in encoder_strides)
        fine, middle, coarse = widths
        self.laterals = nn.ModuleList(
            nn.Conv3d(channels * (8 if stride == 1 else 1), widths[self.LEVELS.index(level)], 1)
            for channels, stride, level in zip(encoder_channels, encoder_strides, self.entry_levels, strict=True)
        )
        maps = {level: self.entry_levels.count(level) for level in self.LEVELS}
        self.detail2 = nn.Sequential(ConvBlock(8 * in_channels, fine), ConvBlock(fine, fine))
        self.detail4 = nn.Sequential(
            nn.Conv3d(fine, middle, 2, stride=2), ConvBlock(middle, middle), ConvBlock(middle, middle)
        )
        self.detail8 = nn.Sequential(nn.Conv3d(middle, coarse, 2, stride=2), ConvBlock(coarse, coarse))
        self.merge8 = ConvBlock(coarse * (1 + maps[8]), coarse)
        self.reduce8 = nn.Conv3d(coarse, middle, 1)
        self.merge4 = ConvBlock(middle * (2 + maps[4]), middle)
        self.reduce4 = nn.Conv3d(middle, fine, 1)
        self.merge2 = nn.Sequential(ConvBlock(fine * (2 + maps[2]), fine), ConvBlock(fine, fine))
        self.expand = nn.Conv3d(fine, 8 * feature_channels, 1)
        self.refine = ConvBlock(feature_channels + in_channels, feature_channels)

    def forward(self, x: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """Return full-resolution features.

        Args:
            x: image, (B, C, D, H, W), sides multiples of 8.
            pyramid: the encoder's maps of that image.

        Returns:
            (B, feature_channels, D, H, W).
        """
        return self.refine(self.unrefined(x, pyramid))

    def unrefined(self, x: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """Return the last step's input, (B, feature_channels + C, D, H, W), for `refine`; arguments as of `forward`."""
        features = depth_to_space(self.expand(self.merged_maps(x, pyramid)[0]))
        return torch.cat([features, x.to(features.dtype)], dim=1)

    def merged_maps(self, x: Tensor, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what image and pyramid give together, (B, widths[i], ...) at strides 2, 4 and 8, as of `forward`."""
        entering: dict[int, list[Tensor]] = {level: [] for level in self.LEVELS}
        levels = zip(self.laterals, self.encoder_strides, self.entry_levels, pyramid, strict=True)
        for lateral, stride, level, feature_map in levels:
            size = [side // level for side in x.shape[2:]]
            if stride == 1:
                feature_map = space_to_depth(feature_map)
            entering[level].append(_resized(lateral(feature_map), size))
        detail2 = self.detail2(space_to_depth(x))
        detail4 = self.detail4(detail2)
        detail8 = self.detail8(detail4)
        merged8 = self.merge8(torch.cat([detail8, *entering[8]], dim=1))
        upwards = _resized(self.reduce8(merged8), detail4.shape[2:])
        merged4 = self.merge4(torch.cat([detail4, upwards, *entering[4]], dim=1))
        upwards = _resized(self.reduce4(merged4), detail2.shape[2:])
        merged2 = self.merge2(torch.cat([detail2, upwards, *entering[2]], dim=1))
        return merged2, merged4, merged8


def space_to_depth(x: Tensor) -> Tensor:
    """Stack each 2 x 2 x 2 block as channels: (B, C, D, H, W) to (B, 8 C, D/2, H/2, W/2)."""
    b, c, d, h, w = x.shape
    x = x.reshape(b, c, d // 2, 2, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, 8 * c, d // 2, h // 2, w // 2)


def depth_to_space(x: Tensor) -> Tensor:
    """Spread channels over 2 x 2 x 2 blocks: the inverse of `space_to_depth`."""
    b, c, d, h, w = x.shape
    x = x.reshape(b, c // 8, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, c // 8, 2 * d, 2 * h, 2 * w)


class ConvBlock(nn.Sequential):
    """Convolution, instance norm and leaky ReLU; bfloat16 on a CPU goes through them with channels last.

    So oneDNN takes it without converting it, and interpolation between blocks is several times faster: a training step
    took 0.8 of the time on one core with AMX, a window of inference 0.75. In float32 nothing is gained.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.InstanceNorm3d(out_channels, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, D, H, W) of (B, in_channels, D, H, W)."""
        convolution, norm, activation = self
        if not _is_bfloat16_on_cpu(x):
            return activation(norm(convolution(x)))
        x = convolution(x.contiguous(memory_format=torch.channels_last_3d))
        return activation(norm(x).contiguous(memory_format=torch.channels_last_3d))  # the norm gives channels first


def _is_bfloat16_on_cpu(x: Tensor) -> bool:
    if x.device.type != "cpu":
        return False
    autocast = torch.is_autocast_enabled("cpu")
    return (torch.get_autocast_dtype("cpu") if autocast else x.dtype) is torch.bfloat16


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return x if list(x.shape[2:]) == list(size) else F.interpolate(x, size=list(size), mode="trilinear")
