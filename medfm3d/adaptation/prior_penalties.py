"""Priors as differentiable penalties on the probabilities of training windows.

A window is a part of a scan, turned and stretched: where it lies and how large its organs are in millimetres is lost.
So each prior is put in a form that holds in any window, some by the help of the window's own outline. All penalties
take probabilities (B, 1 + organs, D, H, W), background first, and outlines of the same shape in one-hot form, and
return a scalar that is 0 where the prior is content.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

DETOUR = 8  # steps that a flood goes beyond half of the window's longest side, to come round an organ
EPSILON = 1e-6


def far_mass(probabilities: Tensor, outlines: Tensor, channels: Sequence[int], reach: int) -> Tensor:
    """Location: the mean probability of an organ further than `reach` voxels from its outline in the window.

    The support set's density of an organ, seen from a window, is its outline there blurred by the spread of its place;
    this is the mass that such a density excludes. Cross-entropy counts a voxel there no more than one at the organ's
    edge; here nothing else counts. An organ with no outline in the window may be anywhere outside it, and is left out.
    """
    near = outlines[:, list(channels)].float()
    shown = near.flatten(2).amax(dim=2)
    for _ in range(reach):
        near = F.max_pool3d(near, 3, stride=1, padding=1)
    outside = (1 - near) * shown[:, :, None, None, None]
    return (probabilities[:, list(channels)] * outside).sum() / outside.sum().clamp(min=1)


def contact(probabilities: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Adjacency: the product of probabilities of two organs that never touch, in voxels that share a face.

    It is divided by the smaller organ's probable volume to the power of 2/3, about its surface, as the prior counts
    contacts by the share of the surface.
    """
    if not pairs:
        return probabilities.sum() * 0
    total = probabilities.new_zeros(())
    sizes = probabilities.flatten(2).sum(dim=2)
    for one, other in pairs:
        p, q = probabilities[:, one], probabilities[:, other]
        shared = (p * q).flatten(1).sum(dim=1)
        for axis in (1, 2, 3):
            side = p.shape[axis]
            low, high = (slice(0, side - 1), slice(1, side))
            before = [slice(None)] * 4
            after = [slice(None)] * 4
            before[axis], after[axis] = low, high
            faces = p[tuple(before)] * q[tuple(after)] + p[tuple(after)] * q[tuple(before)]
            shared = shared + faces.flatten(1).sum(dim=1)
        surface = torch.minimum(sizes[:, one], sizes[:, other]).detach().clamp(min=1) ** (2 / 3)
        total = total + (shared / surface).mean()
    return total / len(pairs)


def wrong_order(probabilities: Tensor, outlines: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Laterality: the share of an organ's probability that lies beyond its partner's outlined centre.

    For pairs (left channel, right channel), the first spatial axis towards the patient's right, in windows that show
    both. Windows are turned by less than a right angle, which leaves the order as it is.
    """
    total, count = probabilities.sum() * 0, 0
    along = torch.arange(probabilities.shape[2], device=probabilities.device, dtype=probabilities.dtype)
    along = along[None, :, None, None]
    for left, right in pairs:
        sizes = outlines[:, [left, right]].flatten(2).sum(dim=2)
        shown = (sizes > 0).all(dim=1)
        if not shown.any():
            continue
        centres = {
            c: (outlines[:, c] * along).flatten(1).sum(dim=1) / outlines[:, c].flatten(1).sum(dim=1).clamp(min=1)
            for c in (left, right)
        }
        for own, partner, sign in ((left, right, 1.0), (right, left, -1.0)):
            beyond = sign * (along - centres[partner][:, None, None, None]) > 0
            mass = probabilities[:, own].flatten(1)
            share = (mass * beyond.expand_as(probabilities[:, own]).flatten(1)).sum(dim=1) / (mass.sum(dim=1) + 1)
            total = total + share[shown].mean()
            count += 1
    return total / max(count, 1)


def unlikely_volume(
    probabilities: Tensor, outlines: Tensor, channels: Sequence[int], tolerances: Sequence[float]
) -> Tensor:
    """Volume: how far the logarithm of an organ's probable volume is from its outline's, beyond the prior's spread.

    FSEFT's constraint on proportions in its logarithmic form; only for organs that lie in the window as a whole, since
    the rest of a cut one has no volume of its own.
    """
    total, count = probabilities.sum() * 0, 0
    for channel, tolerance in zip(channels, tolerances, strict=True):
        outline = outlines[:, channel].float()
        inner = outline[:, 1:-1, 1:-1, 1:-1].flatten(1).sum(dim=1)
        size = outline.flatten(1).sum(dim=1)
        whole = (size > 0) & (inner == size)
        if whole.any():
            expected = probabilities[:, channel].flatten(1).sum(dim=1)
            apart = (torch.log(expected + 1) - torch.log(size + 1)).abs()
            total = total + torch.relu(apart[whole] - tolerance).mean()
            count += 1
    return total / max(count, 1)


def loose_pieces(probabilities: Tensor, outlines: Tensor, channels: Sequence[int]) -> Tensor:
    """Components: the probability outside an organ's outline that no path of voxels as probable joins to it.

    What a flood from within the outline reaches, rising nowhere above the probability itself, is grey-scale
    reconstruction (Vincent, IEEE TIP 1993) by max-pooling, so gradients pass; what it does not reach is a piece apart,
    and so is what lies further from the outline than half of the window.
    """
    p, own = probabilities[:, list(channels)], outlines[:, list(channels)]
    shown = own.flatten(2).amax(dim=2)[:, :, None, None, None]
    loose = (p - _flooded(p * own, p)) * (1 - own) * shown
    return loose.sum() / (shown.sum() * p[0, 0].numel()).clamp(min=1)


def soft_cavities(probabilities: Tensor, channels: Sequence[int]) -> Tensor:
    """Topology: the improbability of an organ in closed rooms within it, which its surroundings do not flood.

    The same flood as in `loose_pieces`, of what is not the organ, from the window's faces: a room is what stays dry.
    """
    rest = 1 - probabilities[:, list(channels)]
    faces = torch.ones_like(rest)
    faces[:, :, 1:-1, 1:-1, 1:-1] = 0
    return (rest - _flooded(rest * faces, rest)).mean()


def _flooded(seeds: Tensor, ceiling: Tensor) -> Tensor:
    level = seeds
    # From the faces of a window its middle is half a side away: fewer steps would leave it dry. More cost memory, as
    # gradients keep each of them.
    for _ in range(max(seeds.shape[2:]) // 2 + DETOUR):
        risen = torch.minimum(F.max_pool3d(level, 3, stride=1, padding=1), ceiling)
        if torch.equal(risen, level):
            break
        level = risen
    return level
