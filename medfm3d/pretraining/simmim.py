"""SimMIM: the whole encoder runs, with mask tokens in hidden places, and a linear layer guesses the voxels there."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medfm3d.encoders import Encoder
from medfm3d.pretraining.masked_network import MaskedNetwork, MaskedPrediction, take_rows


class SimMIM(MaskedNetwork):
    """Masked image modelling at full cost, for comparison with the masked autoencoder.

    Hidden units are a learnt token from behind the patch embedding on, so that every stage computes the whole window.
    There is no decoder: the voxels are a linear function of the features, as they are and not normalised, and the loss
    is their mean absolute error over hidden units alone. Each of the encoder's maps from the predicted patch's stride
    on has its linear layer, and their guesses are summed; the paper has the coarsest alone, whose tokens would have to
    say 32 768 voxels each in 3D.

    Source: Xie et al. 2022, "SimMIM: A Simple Framework for Masked Image Modeling" (arXiv 2111.09886).

    Args:
        encoder: any encoder with `forward_masked`; its `patch_size` is the mask unit.
        mask_ratio: share of hidden units in `draw_mask`.
    """

    method = "SimMIM"

    def __init__(self, encoder: Encoder, mask_ratio: float = 0.6) -> None:
        super().__init__(encoder, mask_ratio)
        # Of maps that share a stride the deepest is taken.
        deepest = {stride: level for level, stride in enumerate(encoder.strides)}
        self.levels = [level for stride, level in deepest.items() if stride >= self.predicted_patch[0]]
        voxels = encoder.in_channels * math.prod(self.predicted_patch)
        self.heads = nn.ModuleList(nn.Linear(encoder.channels[level], voxels) for level in self.levels)
        self.mask_token = nn.Parameter(torch.zeros(encoder.token_dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def predict(self, x: Tensor, mask: Tensor) -> MaskedPrediction:
        """Predict the hidden units from the whole window's features; see `MaskedNetwork.predict`."""
        pyramid = self.encoder.forward_masked(x, mask, self.mask_token)
        grid = self.encoder.unit_grid(x.shape[2:])
        hidden = self.patch_order(mask, grid)[:, -int(mask[0].sum()) * self.patches_per_side**3 :]
        guesses: Tensor | float = 0.0
        for head, level in zip(self.heads, self.levels, strict=True):
            feature_map = pyramid[level]
            for axis, side in enumerate(x.shape[2:], start=2):
                cells = side // self.predicted_patch[0] // feature_map.shape[axis]
                feature_map = feature_map.repeat_interleave(cells, dim=axis)
            guesses = guesses + head(take_rows(feature_map.flatten(2).transpose(1, 2), hidden))
        return MaskedPrediction(guesses, hidden)

    def loss(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the mean absolute error over the voxels of the hidden units."""
        prediction = self.predict(x, mask)
        return F.l1_loss(prediction.patches.float(), self.hidden_patches(x, prediction.hidden).float())

    def restored(self, prediction: Tensor, patches: Tensor) -> Tensor:
        """Return the predictions, which are voxels already."""
        return prediction
