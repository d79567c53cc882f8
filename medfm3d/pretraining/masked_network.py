"""What networks have in common that learn by guessing the voxels of hidden mask units."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medfm3d.encoders import Encoder, patchify, unpatchify
from medfm3d.pretraining.masking import random_mask, seeded_generator

# Units of tens of voxels are guessed in patches of this side, as fine as the patches of the ViTs.
FINEST_PATCH = 8


class MaskedPrediction(NamedTuple):
    """What a network says of the hidden units.

    Attributes:
        patches: (B, N_hidden, C x p x p x p) predicted voxels of patches of side p, `MaskedNetwork.predicted_patch`.
        hidden: (B, N_hidden) numbers of these patches, row-major over the window; in each sample unit after unit.
    """

    patches: Tensor
    hidden: Tensor


class MaskedNetwork(nn.Module, ABC):
    """An encoder, and what guesses the voxels of hidden units from its features.

    Units may be coarser than the patches that are guessed: those of a Swin are as large as its coarsest token, 32
    voxels, whose 32 768 voxels are too many for one token to say; its pyramid has finer maps, and the finest of them
    with a stride of at least 8 sets the patch. Where there is no finer map, as in a ViT, a patch is a unit.

    Attributes:
        method: what provenance calls it.
        predicted_patch: sides (p, p, p) of the patches that are guessed.

    Args:
        encoder: any encoder; its `patch_size` is the mask unit.
        mask_ratio: share of hidden units in `draw_mask`.
    """

    method: str

    def __init__(self, encoder: Encoder, mask_ratio: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.mask_ratio = mask_ratio
        unit = encoder.patch_size[0]
        self.predicted_patch = (min([s for s in encoder.strides if s >= FINEST_PATCH], default=unit),) * 3
        self.patches_per_side = unit // self.predicted_patch[0]

    @abstractmethod
    def predict(self, x: Tensor, mask: Tensor) -> MaskedPrediction:
        """Predict the hidden units' voxels.

        Args:
            x: (B, C, D, H, W).
            mask: (B, N) bool, True where hidden; every sample hides equally many.

        Raises:
            ValueError: if the window or mask does not fit the encoder.
        """

    @abstractmethod
    def loss(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the loss over the hidden units of (B, C, D, H, W)."""

    @abstractmethod
    def restored(self, prediction: Tensor, patches: Tensor) -> Tensor:
        """Return predicted patches on the scale of the window, for pictures; `patches` are the true ones."""

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

    @torch.no_grad()
    def reconstruct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, C, D, H, W): visible patches as they are, hidden ones predicted, on the scale of `x`."""
        prediction = self.predict(x, mask)
        patches = patchify(x, self.predicted_patch).float()
        guessed = self.restored(prediction.patches.float(), take_rows(patches, prediction.hidden))
        filled = patches.scatter(1, prediction.hidden[..., None].expand_as(guessed), guessed)
        return unpatchify(filled, self.predicted_patch, x.shape[2:], self.encoder.in_channels)

    def hide(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return a copy of (B, C, D, H, W) whose hidden units hold the batch's least value, for pictures."""
        patches = patchify(x, self.encoder.patch_size).masked_fill(mask[..., None], x.min().item())
        return unpatchify(patches, self.encoder.patch_size, x.shape[2:], self.encoder.in_channels)

    def hidden_patches(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return the true (B, N_hidden, C x p x p x p) voxels of numbered patches."""
        return take_rows(patchify(x, self.predicted_patch), hidden)

    def patch_order(self, mask: Tensor, grid: Sequence[int]) -> Tensor:
        """Return (B, N_patches) numbers of the patches, those of visible units first, unit after unit.

        Args:
            mask: (B, N) as of `predict`.
            grid: units along each axis.
        """
        return patches_of_units(grid, self.patches_per_side, mask.device)[
            mask.byte().argsort(dim=1, stable=True)
        ].flatten(1)


def patches_of_units(grid: Sequence[int], per_side: int, device: torch.device) -> Tensor:
    """Return (N, per_side ** 3) numbers, row-major over the window, of the patches in each unit of a grid."""
    i, j, k = (side * per_side for side in grid)
    numbers = torch.arange(i * j * k, device=device).view(1, 1, i, j, k)
    return patchify(numbers, (per_side,) * 3)[0]


def take_rows(patches: Tensor, index: Tensor) -> Tensor:
    """Return the numbered rows (B, M, length) of each sample of (B, N, length)."""
    return patches.gather(1, index[..., None].expand(-1, -1, patches.shape[-1]))
