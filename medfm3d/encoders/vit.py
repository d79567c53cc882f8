"""3D vision transformer on the blocks of Primus (EVA-02 blocks, 3D rotary positions)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from dynamic_network_architectures.building_blocks.eva import Eva
from dynamic_network_architectures.building_blocks.patch_encode_decode import PatchEmbed
from timm.layers.pos_embed_sincos import build_rotary_pos_embed, freq_bands
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medfm3d.encoders.encoder import Encoder


class ViTEncoder(Encoder):
    """3D ViT whose state-dict keys are those of Primus, so that OpenMind weights load as they are.

    Attention runs through `torch.nn.functional.scaled_dot_product_attention` (flash attention where the device has it).
    Rotary positions count tokens from the window's corner and so hold for any window. The optional learnt absolute
    positions, which Primus adds, are resized trilinearly to the window's token grid.

    Sources: Wald et al. 2025, "Primus: Enforcing Attention Usage for 3D Medical Image Segmentation" (arXiv 2503.01835);
    Fang et al. 2023, "EVA-02"; Darcet et al. 2024, "Vision Transformers Need Registers".

    Args:
        in_channels: channels of the input.
        patch_size: sides (D, H, W) of a patch in voxels; equal sides only.
        embed_dim: token length; `embed_dim / num_heads` must be a multiple of 6 (three axes, sine and cosine).
        depth: number of blocks.
        num_heads: attention heads.
        register_tokens: learnt tokens beside those of the patches; they are dropped from the output.
        out_layers: blocks (counted from 0) whose output enters the pyramid, the last block among them, and alone if
            None. All maps have the patch's stride, shallow first.
        absolute_window: window (D, H, W) in voxels for which absolute positions are learnt; none if None.
        scale_attn_inner: normalise what attention gives before its output projection, as published Primus weights do.
        init_values: start of learnt scales on the two branches of each block, as published ones have; none if None.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.
        gradient_checkpointing: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: if the sizes do not fit each other.
    """

    def __init__(
        self,
        in_channels: int = 1,
        patch_size: Sequence[int] = (8, 8, 8),
        embed_dim: int = 396,
        depth: int = 12,
        num_heads: int = 6,
        register_tokens: int = 4,
        out_layers: Sequence[int] | None = None,
        absolute_window: Sequence[int] | None = None,
        scale_attn_inner: bool = False,
        init_values: float | None = None,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if len(set(patch_size)) != 1:
            raise ValueError(f"patches must have equal sides, got {tuple(patch_size)}")
        if embed_dim % (6 * num_heads):
            raise ValueError(f"embed_dim {embed_dim} must be a multiple of 6 x num_heads = {6 * num_heads}")
        out_layers = (depth - 1,) if out_layers is None else tuple(out_layers)
        if list(out_layers) != sorted(set(out_layers)) or out_layers[0] < 0 or out_layers[-1] != depth - 1:
            raise ValueError(f"out_layers {out_layers} must rise from 0 or more to the last block, {depth - 1}")
        self.in_channels = in_channels
        self.patch_size = tuple(patch_size)
        self.embed_dim = self.token_dim = embed_dim
        self.out_layers = out_layers
        self.strides = (patch_size[0],) * len(out_layers)
        self.channels = (embed_dim,) * len(out_layers)
        self.gradient_checkpointing = gradient_checkpointing
        self.absolute_grid = self.unit_grid(absolute_window) if absolute_window is not None else None

        self.down_projection = PatchEmbed(self.patch_size, in_channels, embed_dim)
        self.eva = Eva(
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            ref_feat_shape=self.absolute_grid or (1, 1, 1),
            num_reg_tokens=register_tokens,
            use_abs_pos_emb=absolute_window is not None,
            use_rot_pos_emb=False,  # rotary positions are computed below, for whatever window comes
            scale_attn_inner=scale_attn_inner,
            init_values=init_values,
            drop_path_rate=drop_path_rate,
        )
        self.register_tokens = nn.Parameter(torch.zeros(1, register_tokens, embed_dim)) if register_tokens else None
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=0.02)
        self.register_parameter("prompts", None)
        rotary_dim = 2 * embed_dim // num_heads // 3
        self.register_buffer("rotary_bands", freq_bands(rotary_dim // 4, step=1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one (B, embed_dim, D/p, H/p, W/p) map per block of `out_layers`; see `Encoder.forward`."""
        self.check_input(x)
        return self._pyramid(self.down_projection(x).flatten(2).transpose(1, 2), self.unit_grid(x.shape[2:]))

    def forward_masked(self, x: Tensor, mask: Tensor, token: Tensor) -> list[Tensor]:
        """Return maps as `forward`, `token` in place of the embeddings of hidden patches; see `Encoder`."""
        self.check_input(x)
        self.check_mask_shape(x, mask)
        tokens = self.down_projection(x).flatten(2).transpose(1, 2)
        tokens = torch.where(mask[..., None], token.to(tokens.dtype), tokens)
        return self._pyramid(tokens, self.unit_grid(x.shape[2:]))

    def forward_visible(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, N_visible, embed_dim) tokens of the visible patches; see `Encoder.forward_visible`."""
        self.check_input(x)
        visible = self.check_mask(x, mask)
        grid = self.unit_grid(x.shape[2:])
        keep = (~mask).nonzero()[:, 1].view(x.shape[0], visible)  # row-major, so in order within each sample
        patches = patchify(x, self.patch_size)
        patches = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[-1]))
        tokens = F.linear(patches, self.down_projection.proj.weight.flatten(1), self.down_projection.proj.bias)
        absolute = self._absolute_positions(grid)
        if absolute is not None:
            absolute = absolute[0][keep]
        rotary = self._rotary_positions(grid)[keep].unsqueeze(1)  # (B, 1, N_visible, head_dim): one for all heads
        return self._run_blocks(tokens, absolute, rotary)[-1]

    def transformer_blocks(self) -> list[nn.Module]:
        """Return the blocks; see `Encoder.transformer_blocks`."""
        return list(self.eva.blocks)

    def layers(self) -> list[list[nn.Parameter]]:
        """Return patch embedding, positions and tokens, then each block, the last norm with the last; see `Encoder`."""
        deep = [list(block.parameters()) for block in self.eva.blocks]
        deep[-1] += self.eva.norm.parameters()
        known = {id(p) for layer in deep for p in layer}
        return [[p for p in self.parameters() if id(p) not in known], *deep]

    def insert_prompts(self, count: int, *, deep: bool) -> None:
        """Put `count` learnt tokens behind the registers: (depth or 1, count, embed_dim); see `Encoder.insert_prompts`.

        They start as in Jia et al. 2022, uniform and as large as a patch embedding's weights.
        """
        if self.prompts is not None:
            raise ValueError("this encoder has prompt tokens already: insert them into a plain one")
        size = 1 if not deep else len(self.eva.blocks)
        bound = math.sqrt(6 / (self.in_channels * math.prod(self.patch_size) + self.embed_dim))
        self.prompts = nn.Parameter(torch.empty(size, count, self.embed_dim).uniform_(-bound, bound))
        for block in self.eva.blocks:
            block.attn.num_prefix_tokens += count  # tokens that attention gives no rotary position

    def _pyramid(self, tokens: Tensor, grid: tuple[int, int, int]) -> list[Tensor]:
        """Return the maps of `forward` from the (B, N, embed_dim) embeddings of all patches."""
        maps = self._run_blocks(tokens, self._absolute_positions(grid), self._rotary_positions(grid))
        return [m.transpose(1, 2).unflatten(2, grid) for m in maps]

    def _run_blocks(self, tokens: Tensor, absolute: Tensor | None, rotary: Tensor) -> list[Tensor]:
        """Return the (B, N, embed_dim) tokens after each block of `out_layers`, registers and prompts dropped."""
        registers = self.eva.num_prefix_tokens
        if absolute is not None:
            tokens = tokens + absolute
        if self.register_tokens is not None:
            prefix = self.register_tokens
            if self.eva.pos_embed is not None:
                prefix = prefix + self.eva.pos_embed[:, :registers]
            tokens = torch.cat((prefix.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        patches = registers
        if self.prompts is not None:
            patches += self.prompts.shape[1]
            tokens = self._with_prompts(tokens, self.prompts[0], tokens[:, registers:])
        outputs = []
        for index, block in enumerate(self.eva.blocks):
            if self.prompts is not None and 0 < index < len(self.prompts):
                tokens = self._with_prompts(tokens, self.prompts[index], tokens[:, patches:])
            if self.gradient_checkpointing and self.training:
                tokens = checkpoint(block, tokens, rope=rotary, use_reentrant=False)
            else:
                tokens = block(tokens, rope=rotary)
            if index in self.out_layers:
                is_last = index == len(self.eva.blocks) - 1
                # Only the last block has a learnt norm; standardising the others puts all maps on one scale.
                normed = self.eva.norm(tokens) if is_last else F.layer_norm(tokens, tokens.shape[-1:])
                outputs.append(normed[:, patches:])
        return outputs

    def _with_prompts(self, tokens: Tensor, prompts: Tensor, patches: Tensor) -> Tensor:
        """Return registers, prompts and patches in one sequence (B, N, embed_dim)."""
        registers = tokens[:, : self.eva.num_prefix_tokens]
        return torch.cat((registers, prompts.to(tokens.dtype).expand(tokens.shape[0], -1, -1), patches), dim=1)

    def _rotary_positions(self, grid: tuple[int, int, int]) -> Tensor:
        """Return (N, 2 x head_dim) sines and cosines of the token positions of a grid."""
        return torch.cat(build_rotary_pos_embed(list(grid), self.rotary_bands, in_pixels=False), dim=-1)

    def _absolute_positions(self, grid: tuple[int, int, int]) -> Tensor | None:
        """Return (1, N, embed_dim) learnt positions resized to a grid, or None if the encoder has none."""
        if self.eva.pos_embed is None:
            return None
        learnt = self.eva.pos_embed[:, self.eva.num_prefix_tokens :]
        if grid == self.absolute_grid:
            return learnt
        volume = learnt.transpose(1, 2).unflatten(2, self.absolute_grid)
        return F.interpolate(volume, size=grid, mode="trilinear").flatten(2).transpose(1, 2)


def patchify(x: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Cut (B, C, D, H, W) into (B, N, C x p x p x p) patches, row-major over the patch grid.

    Within a patch the order is channel, depth, height, width: that of a convolution's weight, so that a patch
    embedding is `linear(patchify(x), conv.weight.flatten(1))`.
    """
    b, c, d, h, w = x.shape
    p, q, r = patch_size
    x = x.reshape(b, c, d // p, p, h // q, q, w // r, r)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, (d // p) * (h // q) * (w // r), c * p * q * r)


def unpatchify(patches: Tensor, patch_size: Sequence[int], window: Sequence[int], channels: int = 1) -> Tensor:
    """Put (B, N, C x p x p x p) patches back into a (B, C, D, H, W) window: the inverse of `patchify`."""
    p, q, r = patch_size
    d, h, w = window
    x = patches.reshape(patches.shape[0], d // p, h // q, w // r, channels, p, q, r)
    return x.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(patches.shape[0], channels, d, h, w)
