"""The contract that every encoder fulfils."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """A 3D volume in, a feature pyramid out.

    Subclasses set the attributes below in their constructor. Any window whose sides are multiples of the coarsest
    stride must work, whatever size the encoder was pretrained at.

    Attributes:
        in_channels: channels of the input.
        strides: voxels per feature cell of each map of the pyramid, finest first (non-decreasing).
        channels: channels of each map, in the order of `strides`.
        patch_size: sides (D, H, W), in voxels, of the unit that masked pretraining hides.
        embed_dim: length of the tokens that `forward_visible` returns.
        token_dim: length of the embeddings that enter the first block, and so of a mask token of `forward_masked`.
        supports_visible: whether it can encode visible units alone; a convolutional network cannot, since its kernels
            reach over the units' borders.
    """

    in_channels: int
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    patch_size: tuple[int, int, int]
    embed_dim: int
    token_dim: int
    supports_visible: bool = True

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the feature pyramid.

        Args:
            x: (B, C, D, H, W), sides multiples of the coarsest stride.

        Returns:
            One (B, channels[i], D / strides[i], H / strides[i], W / strides[i]) map per stride, finest first.

        Raises:
            ValueError: if the channels or sides of `x` do not fit.
        """

    @abstractmethod
    def forward_visible(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode the visible mask units alone; hidden ones cost nothing and have no influence.

        Args:
            x: (B, C, D, H, W) as in `forward`.
            mask: (B, N) bool, True where a unit is hidden, N = number of units in row-major order (last axis fastest);
                every sample hides equally many.

        Returns:
            (B, N_visible, embed_dim) tokens in the order of the visible units.

        Raises:
            ValueError: if `mask` does not fit `x`, samples hide different numbers of units, or this encoder cannot (see
                `supports_visible`).
        """

    def forward_masked(self, x: Tensor, mask: Tensor, token: Tensor) -> list[Tensor]:
        """Return the feature pyramid with a learnt token in place of each embedding of hidden units, at full cost.

        What SimMIM and iBOT need: hidden voxels have no influence, but their places have features.

        Args:
            x: (B, C, D, H, W) as in `forward`.
            mask: (B, N) bool, True where a unit is hidden, in row-major order; samples may hide different numbers.
            token: (token_dim,) takes the place of hidden embeddings; positions are added to it as to the others.

        Raises:
            ValueError: if `mask` does not fit `x`, or this encoder has no place for mask tokens.
        """
        raise ValueError(f"{type(self).__name__} has no place for mask tokens: use an encoder with `forward_masked`")

    def visible_pyramid(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """Return what `forward_visible` computes as a pyramid; for most encoders the one map that it returns.

        Args:
            x: as of `forward_visible`.
            mask: as of `forward_visible`.

        Returns:
            (B, N_visible, channels, d, h, w) maps, finest first, of the d x h x w cells that a unit has in each.
        """
        return [self.forward_visible(x, mask)[..., None, None, None]]

    def transformer_blocks(self) -> list[nn.Module]:
        """Return the blocks that tokens pass, shallow first, each with `attn` and `mlp`; none if it has no such."""
        return []

    def layers(self) -> list[list[nn.Parameter]]:
        """Return all weights by depth, each once: what comes before the blocks, then each block and what follows it.

        Methods that train deep layers faster, or alone, go by it. An encoder that knows no depths is one layer.
        """
        return [list(self.parameters())]

    def insert_prompts(self, count: int, *, deep: bool) -> None:
        """Put learnt tokens beside those of the image, in front of the first block or of every one (`deep`).

        They attend and are attended to, hold no position, and are dropped from the output.

        Raises:
            ValueError: if this encoder has no place for them, or has some already.
        """
        raise ValueError(f"{type(self).__name__} has no place for prompt tokens: choose another adaptation method")

    def unit_grid(self, window: Sequence[int]) -> tuple[int, int, int]:
        """Return how many mask units lie along each axis of a window of (D, H, W) voxels."""
        d, h, w = (side // unit for side, unit in zip(window, self.patch_size, strict=True))
        return d, h, w

    def check_input(self, x: Tensor) -> None:
        """Raise ValueError unless `x` is (B, in_channels, D, H, W) with sides that fit the coarsest stride."""
        if x.ndim != 5 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected (B, {self.in_channels}, D, H, W), got {tuple(x.shape)}")
        coarsest = max(*self.strides, *self.patch_size)
        if any(side % coarsest for side in x.shape[2:]):
            raise ValueError(
                f"window {tuple(x.shape[2:])} is not a multiple of the coarsest stride {coarsest}: pad it, or choose a "
                "window that is"
            )

    def check_mask(self, x: Tensor, mask: Tensor) -> int:
        """Return how many units are visible in each sample, or raise ValueError if `mask` does not fit `x`."""
        self.check_mask_shape(x, mask)
        visible = (~mask).sum(dim=1)
        if (visible != visible[0]).any() or visible[0] == 0:
            raise ValueError(f"every sample must show the same number of units, at least one; got {visible.tolist()}")
        return int(visible[0])

    def check_mask_shape(self, x: Tensor, mask: Tensor) -> None:
        """Raise ValueError unless `mask` is boolean with one value for each mask unit of `x`."""
        units = torch.Size((x.shape[0], math.prod(self.unit_grid(x.shape[2:]))))
        if mask.shape != units or mask.dtype != torch.bool:
            raise ValueError(f"expected a boolean mask of shape {tuple(units)}, got {mask.dtype} {tuple(mask.shape)}")

    def parameter_count(self) -> int:
        """Return the number of weights."""
        return sum(p.numel() for p in self.parameters())
