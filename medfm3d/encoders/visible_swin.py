"""Stages of a Swin transformer on the visible mask units alone: the same weights, fewer tokens."""

import torch
import torch.nn.functional as F
from monai.networks.blocks import UnetrBasicBlock
from monai.networks.nets.swin_unetr import BasicLayer, SwinTransformerBlock, WindowAttention
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medfm3d.encoders.window_groups import WindowGroups


class VisibleUnits:
    """Which mask units of a batch of windows are visible, and what follows from it for attention.

    Args:
        hidden: (B, d, h, w) bool over the grid of units, True where hidden; every sample hides equally many.
    """

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden
        self.places = (~hidden).nonzero()  # (B x N_visible, 4): sample and place in the grid
        self._groups: dict[tuple[int, ...], WindowGroups] = {}

    def groups(self, side: int, block: SwinTransformerBlock) -> WindowGroups:
        """Return what attends together in a block where a unit has `side` tokens along an axis."""
        window, shift = tuple(block.window_size), tuple(block.shift_size)
        key = (side, *window, *shift)
        if key not in self._groups:
            self._groups[key] = WindowGroups.of_visible(self.hidden, side, window, shift)
        return self._groups[key]


class SwinBlock(SwinTransformerBlock):
    """MONAI's block, which also takes the visible tokens of mask units, with their groups in place of a mask.

    Both ways go through `forward`, so that whatever stands around a block (hooks, sharding) sees either.
    """

    def forward(self, x: Tensor, mask_matrix: Tensor | WindowGroups | None) -> Tensor:
        """Return tokens of the same shape.

        Args:
            x: (B, D, H, W, C), with MONAI's mask of shifted windows; or (B, N_visible, s, s, s, C), with groups.
            mask_matrix: the mask or the groups.
        """
        if not isinstance(mask_matrix, WindowGroups):
            return super().forward(x, mask_matrix)
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(self._forward_visible, x, mask_matrix, use_reentrant=False)
        return self._forward_visible(x, mask_matrix)

    @torch.compiler.disable  # the groups' sizes change with every mask
    def _forward_visible(self, x: Tensor, groups: WindowGroups) -> Tensor:
        x = x + self.drop_path(_attend(self.norm1(x), self.attn, groups))
        return x + self.forward_part2(x)


def run_stage(tokens: Tensor, convolution: UnetrBasicBlock | None, stage: BasicLayer, units: VisibleUnits) -> Tensor:
    """Return what a stage makes of the visible tokens, (B, N_visible, s/2, s/2, s/2, 2 C).

    Args:
        tokens: (B, N_visible, s, s, s, C), visible units in row-major order.
        convolution: SwinUNETR-V2's block before the stage, if there is one.
        stage: blocks and patch merging.
        units: which units these are.
    """
    if convolution is not None:
        tokens = _convolve(tokens, convolution, units)
    for block in stage.blocks:
        tokens = block(tokens, units.groups(tokens.shape[2], block))
    # A unit has a whole number of merged tokens along each axis, so merging never joins two units.
    return stage.downsample(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])


def _attend(tokens: Tensor, attention: WindowAttention, groups: WindowGroups) -> Tensor:
    """Return what `attention` gives (B, N_visible, s, s, s, C) tokens, each attending to its group."""
    heads = attention.num_heads
    qkv = attention.qkv(groups.gather(tokens.flatten(0, -2)))
    attended = []
    for part, batch in zip(qkv.split([batch.rows for batch in groups.batches]), groups.batches, strict=True):
        q, k, v = part.view(batch.count, batch.length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        index = attention.relative_position_index[batch.positions][:, batch.positions]
        scores = (q * attention.scale) @ k.transpose(-2, -1)
        scores = scores + attention.relative_position_bias_table[index].permute(2, 0, 1)
        if batch.absent is not None:
            scores = scores.masked_fill(batch.absent[:, None, None], -torch.inf)
        weights = attention.attn_drop(attention.softmax(scores)).to(v.dtype)
        attended.append((weights @ v).transpose(1, 2).reshape(batch.rows, -1))
    attended = groups.scatter(torch.cat(attended))
    return attention.proj_drop(attention.proj(attended)).view_as(tokens)


def _convolve(tokens: Tensor, convolution: UnetrBasicBlock, units: VisibleUnits) -> Tensor:
    """Return what SwinUNETR-V2's residual block gives (B, N_visible, s, s, s, C) tokens; hidden neighbours count as 0.

    Its instance norms take mean and deviation over the visible tokens, as sparse convolutions do (Tian et al. 2023,
    "Designing BERT for Convolutional Networks").
    """
    layer = convolution.layer
    x = layer.lrelu(_normalise(_convolve_units(tokens, layer.conv1.conv, units), layer.norm1))
    x = _normalise(_convolve_units(x, layer.conv2.conv, units), layer.norm2)
    return layer.lrelu(x + tokens)


def _convolve_units(tokens: Tensor, kernel: nn.Conv3d, units: VisibleUnits) -> Tensor:
    """Return a 3 x 3 x 3 convolution of (B, N_visible, s, s, s, C): each unit with a rim of its neighbours' tokens."""
    batch, visible, side = tokens.shape[:3]
    grid = units.hidden.shape[1:]
    dense = tokens.new_zeros(batch, *grid, *tokens.shape[2:])
    dense = dense.index_put(tuple(units.places.unbind(1)), tokens.flatten(0, 1))
    dense = dense.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(batch, -1, *(cells * side for cells in grid))
    rims = F.pad(dense, (1,) * 6)
    for axis in (2, 3, 4):
        rims = rims.unfold(axis, side + 2, side)
    sample, i, j, k = units.places.unbind(1)
    convolved = F.conv3d(rims[sample, :, i, j, k], kernel.weight, kernel.bias)
    return convolved.movedim(1, -1).unflatten(0, (batch, visible))


def _normalise(tokens: Tensor, norm: nn.Module) -> Tensor:
    """Return (B, N_visible, s, s, s, C) under an instance norm, all tokens of a sample being its one volume."""
    volume = tokens.movedim(-1, 1).flatten(2, 3)  # the norm minds no order of cells, and wants three axes
    return norm(volume).movedim(1, -1).view(tokens.shape)
