"""A training loss with the support set's anatomical priors as constraints."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from monai.networks.utils import one_hot
from torch import Tensor, nn

from medfm3d.adaptation.plan import AdaptationPlan, read_support
from medfm3d.adaptation.prior_penalties import (
    contact,
    far_mass,
    loose_pieces,
    soft_cavities,
    unlikely_volume,
    wrong_order,
)
from medfm3d.cohorts import Case
from medfm3d.priors import (
    AdjacencyPrior,
    ComponentsPrior,
    LateralityPrior,
    LocationPrior,
    PriorSet,
    TopologyPrior,
    VolumePrior,
    create_priors,
    organ_pairs,
)
from medfm3d.volumes import output_name

CONTENT_CAVITIES = 0.5  # cavities of an organ, by the support set, under which it is expected to have none


class PriorLoss(nn.Module):
    """A loss plus weighted penalties where probabilities go against the priors.

    Args:
        loss: of logits (B, 1 + organs, D, H, W) and channel numbers (B, 1, D, H, W).
        priors: fitted priors; each adds its penalty, see `prior_penalties`.
        organs: names in channel order.
        spacing_mm: voxel size of the windows.
        weight: of each penalty.
    """

    def __init__(
        self, loss: nn.Module, priors: PriorSet, organs: Sequence[str], spacing_mm: Sequence[float], weight: float
    ) -> None:
        super().__init__()
        self.loss = loss
        self.weight = weight
        self.names = tuple(priors.priors)
        self.channels = list(range(1, 1 + len(organs)))
        channel = {organ: 1 + index for index, organ in enumerate(organs)}
        for prior in priors.priors.values():
            if isinstance(prior, LocationPrior):
                spread_mm = min(float(learnt.spread_mm.max()) for learnt in prior.organs_.values())
                self.reach = max(1, round(spread_mm / min(spacing_mm)))
            elif isinstance(prior, AdjacencyPrior):
                self.strangers = [(channel[one], channel[other]) for one, other in prior.never_touching()]
            elif isinstance(prior, LateralityPrior):
                self.pairs = [
                    (channel[left], channel[right])
                    for left, right in organ_pairs(organs)
                    if prior.organs_[left].wrong_probability < 0.5
                ]
            elif isinstance(prior, VolumePrior):
                known = [organ for organ in organs if organ in prior.organs_]
                self.sized = [channel[organ] for organ in known]
                self.tolerances = [prior.organs_[organ].scale for organ in known]
            elif isinstance(prior, ComponentsPrior):
                self.single = [channel[organ] for organ in organs if prior.tolerated_count(organ) == 1]
            elif isinstance(prior, TopologyPrior):
                self.solid = [
                    channel[organ] for organ in organs if prior.organs_[organ]["cavities"].location < CONTENT_CAVITIES
                ]

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss with penalties, a scalar."""
        total = self.loss(logits, target)
        for penalty in self.penalties(logits, target).values():
            total = total + self.weight * penalty
        return total

    def penalties(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return each prior's penalty, not weighted."""
        probabilities = torch.softmax(logits.float(), dim=1)
        outlines = one_hot(target, num_classes=logits.shape[1], dtype=probabilities.dtype)
        found = {}
        for name in self.names:
            if name == LocationPrior.name:
                found[name] = far_mass(probabilities, outlines, self.channels, self.reach)
            elif name == AdjacencyPrior.name:
                found[name] = contact(probabilities, self.strangers)
            elif name == LateralityPrior.name:
                found[name] = wrong_order(probabilities, outlines, self.pairs)
            elif name == VolumePrior.name:
                found[name] = unlikely_volume(probabilities, outlines, self.sized, self.tolerances)
            elif name == ComponentsPrior.name and self.single:
                found[name] = loose_pieces(probabilities, outlines, self.single)
            elif name == TopologyPrior.name and self.solid:
                found[name] = soft_cavities(probabilities, self.solid)
        return found


def with_training_priors(
    loss: nn.Module,
    names: Sequence[str],
    data: Sequence[Mapping[str, str]],
    plan: AdaptationPlan,
    weight: float = 0.1,
) -> nn.Module:
    """Return the loss with the named priors, fitted to the support set, as constraints; without names, the loss itself.

    Args:
        loss: as for `PriorLoss`.
        names: keys of `medfm3d.priors.PRIORS`.
        data: support cases as {"image": path, "label": path}.
        plan: the adaptation plan.
        weight: of each penalty.

    Raises:
        ValueError: for an unknown name.
        VolumeError: as `read_support`.
    """
    if not names:
        return loss
    priors = create_priors(names, plan.modality)
    cases = [Case(output_name(case["image"]), Path(case["image"]), Path(case["label"])) for case in data]
    pairs = read_support(cases, plan.organs)
    fitted = PriorSet(priors).fit([label for _, label in pairs], plan.organs, [image for image, _ in pairs])
    return PriorLoss(loss, fitted, plan.organ_names, plan.spacing_mm, weight)
