"""Masked autoencoder: an encoder sees a few patches, a light decoder guesses the voxels of the rest."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from dynamic_network_architectures.building_blocks.eva import Eva
from timm.layers.pos_embed_sincos import build_rotary_pos_embed, freq_bands
from torch import Tensor, nn

from medfm3d.encoders import Encoder, patchify, unpatchify
from medfm3d.pretraining.masking import random_mask, seeded_generator

# He et al. add this to a patch's variance, so that patches without contrast give targets near 0 and not noise.
VARIANCE_FLOOR = 1e-6


class MaskedPrediction(NamedTuple):
    """What the decoder says of the hidden units.

    Attributes:
        patches: (B, N_hidden, C x p x p x p) predicted voxels, each patch on its own scale of mean 0 and deviation 1.
        hidden: (B, N_hidden) numbers of these units, rising within each sample.
    """

    patches: Tensor
    hidden: Tensor


class MaskedAutoencoder(nn.Module):
    """An encoder with a light transformer decoder that reconstructs what the encoder did not see.

    The encoder computes the visible units alone. The decoder is made of the ViT's own blocks with 3D rotary positions.
    It gets the encoded units and one learnt mask token for each hidden unit, adds fixed sine-cosine positions, and
    predicts the hidden units' voxels normalised by each patch's own mean and standard deviation.

    Sources: He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"; Wald et al. 2025, "Primus"
    (arXiv 2503.01835), for the blocks.

    Args:
        encoder: any encoder; its `patch_size` is the mask unit.
        decoder_dim: token length of the decoder, a multiple of 6 x decoder_heads.
        decoder_depth: number of its blocks.
        decoder_heads: its attention heads.
        mask_ratio: share of hidden units in `draw_mask`.

    Raises:
        ValueError: if the decoder's sizes do not fit each other.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder_dim: int = 96,
        decoder_depth: int = 2,
        decoder_heads: int = 2,
        mask_ratio: float = 0.75,
    ) -> None:
        super().__init__()
        if decoder_dim % (6 * decoder_heads):
            raise ValueError(f"decoder_dim {decoder_dim} must be a multiple of 6 x decoder_heads = {6 * decoder_heads}")
        self.encoder = encoder
        self.mask_ratio = mask_ratio
        patch_voxels = encoder.in_channels * encoder.patch_size[0] * encoder.patch_size[1] * encoder.patch_size[2]
        self.embedding = nn.Linear(encoder.embed_dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder = Eva(
            embed_dim=decoder_dim,
            depth=decoder_depth,
            num_heads=decoder_heads,
            ref_feat_shape=(1, 1, 1),
            use_abs_pos_emb=False,
            use_rot_pos_emb=False,  # computed below, for whatever window comes
        )
        self.head = nn.Linear(decoder_dim, patch_voxels)
        nn.init.normal_(self.mask_token, std=0.02)
        for linear in (self.embedding, self.head):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        rotary_dim = 2 * decoder_dim // decoder_heads // 3
        self.register_buffer("rotary_bands", freq_bands(rotary_dim // 4, step=1), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the reconstruction of a window, as `reconstruct`; without a mask, one drawn from seed 0.

        Args:
            x: (B, C, D, H, W), sides multiples of the encoder's coarsest stride.
            mask: (B, N) bool, True where hidden, N units in row-major order.
        """
        if mask is None:
            mask = self.draw_mask(x, seeded_generator(0))
        return self.reconstruct(x, mask)

    def draw_mask(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a (B, N) mask for a batch of windows (B, C, D, H, W), on the batch's device."""
        d, h, w = self.encoder.unit_grid(x.shape[2:])
        return random_mask(x.shape[0], d * h * w, self.mask_ratio, generator).to(x.device)

    def predict(self, x: Tensor, mask: Tensor) -> MaskedPrediction:
        """Predict the hidden units from the visible ones.

        Args:
            x: (B, C, D, H, W).
            mask: (B, N) bool, True where hidden; every sample hides equally many.

        Raises:
            ValueError: if the window or mask does not fit the encoder.
        """
        seen = self.embedding(self.encoder.forward_visible(x, mask))
        # Attention does not mind the order of tokens, so long as each keeps its rotary position: visible ones first
        # saves putting them back in their places.
        order = mask.byte().argsort(dim=1, stable=True)
        hidden = order[:, seen.shape[1] :]
        guesses = self.mask_token.to(seen.dtype).expand(x.shape[0], hidden.shape[1], -1)
        tokens = torch.cat((seen, guesses), dim=1)
        grid = self.encoder.unit_grid(x.shape[2:])
        # Mask tokens are all alike, and rotary positions alone tell them apart only as far as attention is sharp, which
        # it is not at the start.
        tokens = tokens + sincos_positions(grid, tokens.shape[-1], x.device)[order]
        rotary = self._rotary_positions(grid)[order].unsqueeze(1)
        for block in self.decoder.blocks:
            tokens = block(tokens, rope=rotary)
        patches = self.head(self.decoder.norm(tokens[:, seen.shape[1] :]))
        return MaskedPrediction(patches, hidden)

    def loss(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared error over the voxels of the hidden units, each patch normalised by its own scale."""
        prediction = self.predict(x, mask)
        patches = _take(patchify(x, self.encoder.patch_size), prediction.hidden)
        mean, deviation = patch_scale(patches.float())
        return F.mse_loss(prediction.patches.float(), (patches.float() - mean) / deviation)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, C, D, H, W): visible patches as they are, hidden ones predicted, on the scale of `x`.

        A prediction is normalised; it takes mean and standard deviation of the patch it stands for, as in the figures
        of He et al. The picture shows structure that was guessed, not intensities that were.
        """
        prediction = self.predict(x, mask)
        patches = patchify(x, self.encoder.patch_size).float()
        mean, deviation = patch_scale(_take(patches, prediction.hidden))
        guessed = prediction.patches.float() * deviation + mean
        index = prediction.hidden[..., None].expand_as(guessed)
        filled = patches.scatter(1, index, guessed)
        return unpatchify(filled, self.encoder.patch_size, x.shape[2:], self.encoder.in_channels)

    def hide(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return a copy of (B, C, D, H, W) whose hidden units hold the batch's least value, for pictures."""
        patches = patchify(x, self.encoder.patch_size).masked_fill(mask[..., None], x.min().item())
        return unpatchify(patches, self.encoder.patch_size, x.shape[2:], self.encoder.in_channels)

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


def _take(patches: Tensor, index: Tensor) -> Tensor:
    return patches.gather(1, index[..., None].expand(-1, -1, patches.shape[-1]))
