"""Test-time augmentation around any inferer of MONAI."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from medfm3d.inference.scan_variants import Variant, draw_variants
from medfm3d.volumes import plain_tensor

AGREEMENT = "tta_agreement"
_HIDDEN = -1


class AugmentedInferer(Inferer):
    """Run an inferer on a scan as it is and on variants of it, and average what the network says.

    Probabilities are averaged, not logits: their mean is the prediction of a mixture of the variants, whose entropy and
    expected Dice are meant as they stand; a mean of logits is a geometric mean, in which one variant that is sure of
    the wrong thing overrules the others, and a logit interpolated on its way back is no logit of anything. The result
    is the logarithm of the mean, so that a softmax behind it, as behind the network, gives the mean back.

    Variants are turned, scaled and shifted a little and differ in contrast (Wang et al., Neurocomputing 338, 2019, on
    test-time augmentation). Where a variant does not show a voxel, it has no vote on it.

    The input's metadata, if it has any, gets an entry `tta_agreement`, (B, organs): the mean Dice between the masks of
    the variants and the mask of the mean, a measure of how sure the network is.

    Args:
        inferer: the inferer that is run each time, a sliding window say.
        variants: how many looks at a scan, the one at the scan as it is included.
        spacing_mm: voxel size of the scans.
        seed: of the variants; the same for all scans.

    Raises:
        ValueError: if there is not even one look.
        TypeError: when called, if the network gives anything but one tensor (B, C, D, H, W).
    """

    def __init__(
        self, inferer: Inferer, variants: int, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0), seed: int = 0
    ) -> None:
        super().__init__()
        if variants < 1:
            raise ValueError(f"test-time augmentation needs at least one look at a scan, got {variants}")
        self.inferer = inferer
        self.variants = draw_variants(variants - 1, spacing_mm, seed)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return the logarithm of mean probabilities, (B, C, D, H, W), of inputs (B, 1, D, H, W)."""
        plain = plain_tensor(inputs)

        def probabilities(scan: Tensor) -> Tensor:
            logits = self.inferer(scan, network, *args, **kwargs)
            if not isinstance(logits, Tensor) or logits.ndim != 5:
                raise TypeError("test-time augmentation needs a network that gives one tensor (B, C, D, H, W)")
            return torch.softmax(plain_tensor(logits), dim=1)

        total = probabilities(plain)
        looks = torch.ones(total.shape[0], *total.shape[2:], dtype=torch.uint8, device=total.device)
        masks = [total.argmax(dim=1).to(torch.int16)]
        for variant in self.variants:
            masks.append(_vote(variant, plain, probabilities, total, looks))
        mean = total.div_(looks[:, None])
        if isinstance(inputs, MetaTensor):
            inputs.meta[AGREEMENT] = _agreement(masks, mean.argmax(dim=1).to(torch.int16), mean.shape[1])
        result = mean.clamp_(min=torch.finfo(mean.dtype).tiny).log_()
        return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result


def _vote(
    variant: Variant, scans: Tensor, probabilities: Callable[[Tensor], Tensor], total: Tensor, looks: Tensor
) -> Tensor:
    """Add what a variant says to the total, count its looks, and return its mask, `_HIDDEN` where it shows nothing."""
    moved = torch.stack([variant.apply(scan) for scan in scans.cpu()]).to(scans)
    mask = torch.full_like(looks, 0, dtype=torch.int16)
    for number, said in enumerate(probabilities(moved).cpu()):
        for slab, channels, shown in variant.undo(said):
            total[number, :, slab] += (channels * shown).to(total)
            looks[number, slab] += shown.to(looks)
            seen = torch.where(shown, channels.argmax(dim=0), _HIDDEN)
            mask[number, slab] = seen.to(mask)
    return mask


def _agreement(masks: Sequence[Tensor], mean: Tensor, channels: int) -> Tensor:
    """Return the mean Dice of the masks with that of the mean, (B, channels - 1); 1 where neither has the organ."""
    scores = torch.ones(len(masks), mean.shape[0], channels - 1)
    for row, mask in enumerate(masks):
        for column in range(channels - 1):
            own, common = mask == column + 1, (mean == column + 1) & (mask != _HIDDEN)
            sizes = (own.sum((1, 2, 3)) + common.sum((1, 2, 3))).cpu()
            overlap = (own & common).sum((1, 2, 3)).cpu()
            scores[row, :, column] = torch.where(sizes > 0, 2 * overlap / sizes.clamp(min=1), 1.0)
    return scores.mean(dim=0)
