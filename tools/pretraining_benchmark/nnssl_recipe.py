"""The masked autoencoder that nnssl trains for OpenMind's Primus, on the blocks of its original architecture.

nnssl itself is on no package index, so that its step is built here from what its trainer does (BaseEvaMAETrainer):
EVA blocks on the visible patches, learnt tokens put back in the hidden places, two more blocks as wide as the encoder's
on all of them, transposed convolutions up to the voxels, and the mean squared error of hidden voxels.
"""

import math
from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.eva import Eva
from dynamic_network_architectures.building_blocks.patch_encode_decode import LayerNormNd, PatchDecode, PatchEmbed
from torch import Tensor, nn

DECODER_DEPTH = 2


class NnsslMAE(nn.Module):
    """Primus as a masked autoencoder in nnssl's way.

    Source: Wald et al. 2025, "Primus" (arXiv 2503.01835), and the OpenMind release's trainer.

    Args:
        window: sides (D, H, W) in voxels.
        patch_size: sides of a patch.
        embed_dim: token length of encoder and decoder.
        depth: blocks of the encoder.
        num_heads: attention heads.
        mask_ratio: share of hidden patches.
    """

    def __init__(
        self,
        window: Sequence[int],
        patch_size: Sequence[int],
        embed_dim: int,
        depth: int,
        num_heads: int,
        mask_ratio: float,
    ) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.grid = tuple(side // patch for side, patch in zip(window, patch_size, strict=True))
        patches = math.prod(self.grid)
        self.visible = patches - round(patches * mask_ratio)
        shared = {
            "embed_dim": embed_dim,
            "num_heads": num_heads,
            "ref_feat_shape": self.grid,
            "init_values": 0.1,
            "scale_attn_inner": True,
            "drop_path_rate": 0.2,
        }
        self.down_projection = PatchEmbed(self.patch_size, 1, embed_dim)
        self.eva = Eva(depth=depth, **shared)
        self.decoder = Eva(depth=DECODER_DEPTH, **shared)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.up_projection = PatchDecode(self.patch_size, embed_dim, 1, norm=LayerNormNd, activation=nn.GELU)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error over the hidden voxels of (B, 1, D, H, W), which the network draws itself."""
        tokens = self.down_projection(x).flatten(2).transpose(1, 2)
        kept = torch.rand(tokens.shape[:2], device=x.device).argsort(dim=1)[:, : self.visible]
        index = kept[..., None].expand(-1, -1, tokens.shape[-1])
        # As Eva.forward with a rate of dropped patches, which timm's present layers do not go with any more.
        seen = (tokens + self.eva.pos_embed).gather(1, index)
        rotary = self.eva.rope.get_embed()[kept].unsqueeze(1)
        for block in self.eva.blocks:
            seen = block(seen, rope=rotary)
        seen = self.eva.norm(seen)
        whole = self.mask_token.to(seen.dtype).expand_as(tokens).scatter(1, index, seen)
        decoded, _ = self.decoder(whole)
        voxels = self.up_projection(decoded.transpose(1, 2).unflatten(2, self.grid))
        hidden = torch.ones(tokens.shape[:2], device=x.device).scatter(1, kept, 0.0).view(-1, 1, *self.grid)
        for axis, side in enumerate(self.patch_size, start=2):
            hidden = hidden.repeat_interleave(side, dim=axis)
        return ((voxels - x).square() * hidden).sum() / hidden.sum()
