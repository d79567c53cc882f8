"""Masked autoencoder: an encoder sees a few patches, a light decoder guesses the voxels of the rest."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from dynamic_network_architectures.building_blocks.eva import Eva
from timm.layers.pos_embed_sincos import build_rotary_pos_embed, freq_bands
from torch import Tensor, nn

from medfm3d.encoders import Encoder
from medfm3d.pretraining.masked_network import MaskedNetwork, MaskedPrediction

# He et al. add this to a patch's variance, so that patches without contrast give targets near 0 and not noise.
VARIANCE_FLOOR = 1e-6


class MaskedAutoencoder(MaskedNetwork):
    """An encoder with a light transformer decoder that reconstructs what the encoder did not see.

    The encoder computes the visible units alone. The decoder is made of the ViT's own blocks with 3D rotary positions.
    It gets the encoded units and one learnt mask token for each hidden unit, adds fixed sine-cosine positions, and
    predicts the hidden units' voxels normalised by each patch's own mean and standard deviation.

    Where units are coarser than patches, the decoder's tokens are patches: those of visible units are sums of what the
    encoder's maps say there, as Hiera adds its stages up for its decoder, from the patch's own stride to the coarsest.

    Sources: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"; Wald et al. 2025, "Primus"
    (arXiv 2503.01835), for the blocks; Ryali et al. 2023, "Hiera" (arXiv 2306.00989), for encoders with finer maps.

    Args:
        encoder: any encoder with `forward_visible`; its `patch_size` is the mask unit.
        decoder_dim: token length of the decoder, a multiple of 6 x decoder_heads.
        decoder_depth: number of its blocks.
        decoder_heads: its attention heads.
        mask_ratio: share of hidden units in `draw_mask`.

    Raises:
        ValueError: if the decoder's sizes do not fit each other.
    """

    method = "masked autoencoder"

    def __init__(
        self,
        encoder: Encoder,
        decoder_dim: int = 96,
        decoder_depth: int = 2,
        decoder_heads: int = 2,
        mask_ratio: float = 0.75,
    ) -> None:
        super().__init__(encoder, mask_ratio)
        if decoder_dim % (6 * decoder_heads):
            raise ValueError(f"decoder_dim {decoder_dim} must be a multiple of 6 x decoder_heads = {6 * decoder_heads}")
        self.embedding = nn.Linear(encoder.embed_dim, decoder_dim)
        finer = [
            channels
            for stride, channels in zip(encoder.strides, encoder.channels, strict=True)
            if self.predicted_patch[0] <= stride < encoder.patch_size[0]
        ]
        self.finer_embeddings = nn.ModuleList(nn.Linear(channels, decoder_dim) for channels in finer)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder = Eva(
            embed_dim=decoder_dim,
            depth=decoder_depth,
            num_heads=decoder_heads,
            ref_feat_shape=(1, 1, 1),
            use_abs_pos_emb=False,
            use_rot_pos_emb=False,  # computed below, for whatever window comes
        )
        self.head = nn.Linear(decoder_dim, encoder.in_channels * math.prod(self.predicted_patch))
        nn.init.normal_(self.mask_token, std=0.02)
        for linear in (self.embedding, *self.finer_embeddings, self.head):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        rotary_dim = 2 * decoder_dim // decoder_heads // 3
        self.register_buffer("rotary_bands", freq_bands(rotary_dim // 4, step=1), persistent=False)

    def predict(self, x: Tensor, mask: Tensor) -> MaskedPrediction:
        """Predict the hidden units from the visible ones, each patch normalised; see `MaskedNetwork.predict`."""
        seen = self._embed(self.encoder.visible_pyramid(x, mask))
        grid = self.encoder.unit_grid(x.shape[2:])
        # Attention does not mind the order of tokens, so long as each keeps its rotary position: visible ones first
        # saves putting them back in their places.
        order = self.patch_order(mask, grid)
        hidden = order[:, seen.shape[1] :]
        guesses = self.mask_token.to(seen.dtype).expand(x.shape[0], hidden.shape[1], -1)
        tokens = torch.cat((seen, guesses), dim=1)
        patch_grid = tuple(cells * self.patches_per_side for cells in grid)
        # Mask tokens are all alike, and rotary positions alone tell them apart only as far as attention is sharp, which
        # it is not at the start.
        tokens = tokens + sincos_positions(patch_grid, tokens.shape[-1], x.device)[order]
        rotary = self._rotary_positions(patch_grid)[order].unsqueeze(1)
        for block in self.decoder.blocks:
            tokens = block(tokens, rope=rotary)
        patches = self.head(self.decoder.norm(tokens[:, seen.shape[1] :]))
        return MaskedPrediction(patches, hidden)

    def loss(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared error over the voxels of the hidden units, each patch normalised by its own scale."""
        prediction = self.predict(x, mask)
        patches = self.hidden_patches(x, prediction.hidden).float()
        mean, deviation = patch_scale(patches)
        return F.mse_loss(prediction.patches.float(), (patches - mean) / deviation)

    def restored(self, prediction: Tensor, patches: Tensor) -> Tensor:
        """Return predictions with mean and standard deviation of the patches they stand for, as He et al. show them.

        The picture shows structure that was guessed, not intensities that were.
        """
        mean, deviation = patch_scale(patches)
        return prediction * deviation + mean

    def _embed(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return (B, N_visible x patches of a unit, decoder_dim) of the visible units' pyramid."""
        maps = pyramid[len(pyramid) - 1 - len(self.finer_embeddings) :]
        total: Tensor | float = 0.0
        for embedding, feature_map in zip((*self.finer_embeddings, self.embedding), maps, strict=True):
            tokens = embedding(feature_map.movedim(2, -1))  # (B, N_visible, d, h, w, decoder_dim)
            for axis in (2, 3, 4):
                tokens = tokens.repeat_interleave(self.patches_per_side // tokens.shape[axis], dim=axis)
            total = total + tokens
        return total.flatten(1, 4)

    def _rotary_positions(self, grid: tuple[int, int, int]) -> Tensor:
        """Return (N, 2 x head_dim) sines and cosines of the unit positions of a grid."""
        return torch.cat(build_rotary_pos_embed(list(grid), self.rotary_bands, in_pixels=False), dim=-1)


def sincos_positions(grid: Sequence[int], dim: int, device: torch.device) -> Tensor:
    """Return (N, dim) sines and cosines of each unit's place along the three axes, at frequencies 1 to 1/100.

    Units are in row-major order; `dim` is a multiple of 6. As Vaswani et al. 2017, with a shorter longest wave since
    windows have tens of units along an axis, not thousands.
    """
    waves = 100 ** -torch.linspace(0, 1, dim // 6, device=device)
    places = torch.cartesian_prod(*(torch.arange(side, device=device, dtype=torch.float32) for side in grid))
    angles = (places[..., None] * waves).flatten(1)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def patch_scale(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, each (B, N, 1), of patches (B, N, voxels); the deviation is never 0."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + VARIANCE_FLOOR).sqrt()
