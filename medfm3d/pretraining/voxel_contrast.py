"""Contrast between voxels: the same structure looks alike under any contrast, another does not."""

import torch
import torch.nn.functional as F
from torch import Tensor


def voxel_contrastive_loss(
    views: Tensor, label: Tensor, generator: torch.Generator, *, per_label: int = 24, temperature: float = 0.33
) -> Tensor:
    """Supervised contrastive loss of voxels sampled from two views of one label map.

    For each sampled voxel all others of its label, in both views, are positives and the rest negatives (Khosla et al.
    2020, equation 2; on voxels as in Dey et al. 2025, anatomix, section 3.2).

    Args:
        views: embeddings (2, E, D, H, W) of two images with the geometry of `label`.
        label: (D, H, W) integers.
        generator: draws the voxels; on the CPU.
        per_label: voxels drawn of each label, with repetition where it has fewer.
        temperature: of the similarities.

    Returns:
        The loss, a scalar; 0 if there is one label only.
    """
    flat = label.flatten().cpu()
    present = flat.unique().tolist()
    if len(present) < 2:
        return views.sum() * 0
    chosen, names = [], []
    for value in present:
        places = (flat == value).nonzero()[:, 0]
        chosen.append(places[torch.randint(len(places), (per_label,), generator=generator)])
        names.append(torch.full((per_label,), value))
    index = torch.cat(chosen).to(views.device)
    name = torch.cat(names).to(views.device).repeat(2)
    z = F.normalize(views.flatten(2)[:, :, index].float().movedim(1, 2).flatten(0, 1), dim=1)
    similarity = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_probability = similarity - similarity.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    positive = (name[:, None] == name[None]) & ~itself
    return -(log_probability * positive).sum(dim=1).div(positive.sum(dim=1)).mean()
