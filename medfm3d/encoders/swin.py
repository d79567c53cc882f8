"""3D Swin transformer on MONAI's own, with a pass that computes the visible mask units alone."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets.swin_unetr import BasicLayer, SwinTransformer
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from medfm3d.encoders.encoder import Encoder
from medfm3d.encoders.visible_swin import SwinBlock, VisibleUnits, run_stage
from medfm3d.encoders.vit import patchify

STAGES = 4  # SwinTransformer has four, whatever its arguments


class SwinEncoder(Encoder):
    """3D Swin whose state-dict keys are those behind `swinViT.` in SwinUNETR, so that public weights load as they are.

    The pyramid is SwinUNETR's: the patch embedding and what each stage leaves behind its patch merging, five maps of
    strides p, 2p, 4p, 8p and 16p for patches of side p, each standardised over its channels without learnt scales.

    A mask unit is what one token of the coarsest map covers, 16p voxels a side: patch merging never joins two units, so
    hidden ones can be dropped. A unit has 16, 8, 4 and 2 tokens a side in the four stages, and windows that divide it,
    as those of 4 do in the first three, are dropped whole. A window that visible and hidden units share, as shifted
    ones do, keeps its visible tokens alone. With nothing hidden that is the ordinary forward.

    What MONAI's blocks do to small volumes: along an axis with no more tokens than the window has, the window shrinks
    to the axis and is not shifted; any other axis is padded with zero tokens to a multiple of the window, and they are
    attended to, so that the far border sees some emptiness. At 96 voxels and p = 2, windows of 7 pad each axis by 1 to
    4 tokens in the first three stages and shrink to 6 in the last; windows of 4 pad the last stage alone, by 2.

    Sources: Hatamizadeh et al. 2022, "Swin UNETR" (arXiv 2201.01266); He et al. 2023, "SwinUNETR-V2" (a residual
    convolution before each stage); Liu et al. 2021, "Swin Transformer"; for hidden units Huang et al. 2022, "Green
    Hierarchical Vision Transformer for Masked Image Modeling" (arXiv 2205.13515), and Ryali et al. 2023, "Hiera".

    Args:
        in_channels: channels of the input.
        feature_size: token length of the first stage; it doubles with each.
        patch_size: side p of a patch in voxels, a power of two.
        window_size: sides (D, H, W) of the attention windows in tokens; one number for a cube.
        depths: blocks of each of the four stages; every other one is shifted by half a window.
        num_heads: attention heads of each stage.
        mlp_ratio: hidden length of the MLPs by that of the tokens.
        use_v2: put SwinUNETR-V2's residual convolution before each stage.
        patch_norm: normalise the patch embedding.
        merging: "merging" as in public weights, or "mergingv2", MONAI's corrected order of the eight merged tokens.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.
        gradient_checkpointing: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: if the sizes do not fit each other.
    """

    def __init__(
        self,
        in_channels: int = 1,
        feature_size: int = 24,
        patch_size: int = 2,
        window_size: int | Sequence[int] = 7,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        mlp_ratio: float = 4.0,
        use_v2: bool = False,
        patch_norm: bool = False,
        merging: str = "merging",
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if len(depths) != STAGES or len(num_heads) != STAGES or min(depths) < 1:
            raise ValueError(f"depths and num_heads must name {STAGES} stages, got {tuple(depths)}, {tuple(num_heads)}")
        if patch_size < 1 or patch_size & (patch_size - 1):
            raise ValueError(f"patch_size must be a power of two, got {patch_size}")
        lengths = [feature_size * 2**stage for stage in range(STAGES + 1)]
        if any(length % heads for length, heads in zip(lengths, num_heads, strict=False)):
            raise ValueError(f"token lengths {lengths[:STAGES]} must be multiples of num_heads {tuple(num_heads)}")
        self.in_channels = in_channels
        self.strides = tuple(patch_size * 2**stage for stage in range(STAGES + 1))
        self.channels = tuple(lengths)
        self.patch_size = (self.strides[-1],) * 3
        self.embed_dim = lengths[-1]
        self.token_dim = feature_size
        device = torch.empty(0).device
        with torch.device("cpu"):  # MONAI reads numbers off a tensor, which "meta" has none of
            swin = SwinTransformer(
                in_chans=in_channels,
                embed_dim=feature_size,
                window_size=ensure_tuple_rep(window_size, 3),
                patch_size=(patch_size,) * 3,
                depths=depths,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                drop_path_rate=drop_path_rate,
                patch_norm=patch_norm,
                use_checkpoint=gradient_checkpointing,
                downsample=merging,
                use_v2=use_v2,
            )
        swin.to(device)
        # Its parts, not itself, are taken in, so that no prefix stands before the keys of public checkpoints.
        for name, part in swin.named_children():
            self.add_module(name, part)
        for block in self.transformer_blocks():
            block.__class__ = SwinBlock  # MONAI's stages name their blocks' class, and take no other

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the five maps; see `Encoder.forward`."""
        self.check_input(x)
        return self._pyramid(self.patch_embed(x))

    def forward_masked(self, x: Tensor, mask: Tensor, token: Tensor) -> list[Tensor]:
        """Return the maps of a window whose hidden units are mask tokens; see `Encoder.forward_masked`."""
        self.check_input(x)
        self.check_mask_shape(x, mask)
        tokens = self.patch_embed(x)
        hidden = mask.view(-1, 1, *self.unit_grid(x.shape[2:]))
        for axis in (2, 3, 4):
            hidden = hidden.repeat_interleave(2**STAGES, dim=axis)
        return self._pyramid(tokens.where(~hidden, token.to(tokens.dtype).view(1, -1, 1, 1, 1)))

    def forward_visible(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, N_visible, embed_dim) tokens of the visible units; see `Encoder.forward_visible`."""
        return self.visible_pyramid(x, mask)[-1].flatten(2)

    def visible_pyramid(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """Return the pyramid of the visible units alone; see `Encoder.visible_pyramid`."""
        self.check_input(x)
        visible = self.check_mask(x, mask)
        units = VisibleUnits(mask.view(-1, *self.unit_grid(x.shape[2:])))
        keep = (~mask).nonzero()[:, 1].view(x.shape[0], visible, 1)  # row-major, so in order within each sample
        voxels = patchify(x, self.patch_size)
        voxels = voxels.gather(1, keep.expand(-1, -1, voxels.shape[-1])).view(-1, self.in_channels, *self.patch_size)
        tokens = self.patch_embed(voxels).movedim(1, -1).unflatten(0, (x.shape[0], visible))
        maps = [tokens]
        for convolution, stage in self._stages():
            maps.append(run_stage(maps[-1], convolution, stage, units))
        return [_standardised(m).movedim(-1, 2) for m in maps]

    def transformer_blocks(self) -> list[nn.Module]:
        """Return the blocks of all stages; see `Encoder.transformer_blocks`."""
        return [block for _, stage in self._stages() for block in stage.blocks]

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the patch embedding, then each block, with its stage's merging behind the last; see `Encoder.layers`.

        A convolution of V2 goes with what stands before it.
        """
        layers = [list(self.patch_embed.parameters())]
        for convolution, stage in self._stages():
            if convolution is not None:
                layers[-1] += convolution.parameters()
            layers += [list(block.parameters()) for block in stage.blocks]
            layers[-1] += stage.downsample.parameters()
        return layers

    def _stages(self) -> Iterator[tuple[nn.Module | None, BasicLayer]]:
        """Yield each stage and the convolution of V2 before it, if there is one."""
        for number in range(1, STAGES + 1):
            convolution = getattr(self, f"layers{number}c", None)
            yield None if convolution is None else convolution[0], getattr(self, f"layers{number}")[0]

    def _pyramid(self, tokens: Tensor) -> list[Tensor]:
        """Return the maps behind the patch embedding (B, feature_size, D, H, W), as SwinTransformer.forward."""
        maps = [tokens]
        for convolution, stage in self._stages():
            tokens = maps[-1].contiguous()
            maps.append(stage(tokens if convolution is None else convolution(tokens)))
        return [_standardised(m.movedim(1, -1)).movedim(-1, 1) for m in maps]


def _standardised(tokens: Tensor) -> Tensor:
    """Return tokens (..., C) with mean 0 and deviation 1 over C, as SwinUNETR hands them to its decoder."""
    return F.layer_norm(tokens, tokens.shape[-1:])
