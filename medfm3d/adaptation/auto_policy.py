"""The policy `auto`: which method suits so many outlined scans, so far from those of pretraining."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medfm3d.adaptation.plan import AdaptationPlan
from medfm3d.adaptation.registry import ADAPTERS
from medfm3d.adaptation.statistics_file import read_statistics
from medfm3d.cohorts import Case
from medfm3d.encoders import load_encoder
from medfm3d.pretraining import random_window

AUTO = "auto"
METHODS = (*ADAPTERS, AUTO)
# Domain gap from which on scans count as unlike those of pretraining. Measured with the shipped encoder: support sets
# of its own cohorts, of cases that it saw and of others, 0.77 to 1.08; the other modality 2.5 and 3.5, MR with
# inverted contrast 2.3.
FAR = 1.75
WINDOWS_PER_SCAN = 8


@dataclass(frozen=True)
class MethodChoice:
    """A method, and why it was taken.

    Attributes:
        method: its name.
        arguments: its arguments.
        reason: in words.
    """

    method: str
    arguments: dict[str, Any] = field(default_factory=dict)
    reason: str = "chosen by the user"


@dataclass(frozen=True)
class Rule:
    """One row of the decision table.

    Attributes:
        most_cases: the row holds for so many support cases at most, and more than the row before.
        near: method for scans like those of pretraining, or where nobody knows.
        far: method for scans unlike them.
        because_near: the reason in words.
        because_far: that for scans unlike them.
    """

    most_cases: float
    near: str
    far: str
    because_near: str
    because_far: str


# What it rests on; figures are mean Dice of development cases, one draw of the support set:
# - With self-supervised weights, cached features alone do not do (box-adapter 0.49, decoder 0.83 on MSD Hippocampus,
#   K = 5), so the decoder learns in every row.
# - Scans like those of pretraining leave nothing for LoRA to do that would be worth a third more time: hippocampus,
#   K = 5, 600 steps 0.834 against 0.830; K = 10, 1200 steps 0.867 against 0.870.
# For scans unlike them nothing was measured here yet, and the table follows the literature:
# - FSEFT: the fewer cases, the less of an encoder may move (full fine-tuning is the worst method at K = 1, 5 and 10),
#   and at 10 cases LoRA with the decoder is the best method for organs new to the encoder.
# - BitFit: biases and norms, 1 % of the weights, adapt to a shift in the features' scale and place with the least data.
# - Frozen self-supervised encoders do much worse than fine-tuned ones where data suffice (Wald et al. 2025, OpenMind),
#   and the more so the farther the data; deep layers move most (layer-wise decay, BEiT).
TABLE = (
    Rule(
        2,
        "decoder",
        "bias",
        "one or two scans cannot say how an encoder should change",
        "one or two scans cannot say how an encoder should change, but its biases and norms may follow scans that are "
        "new to it",
    ),
    Rule(
        7,
        "decoder",
        "lora",
        "a handful of scans trains a decoder, and training the encoder too has gained nothing on scans that it knows",
        "a handful of scans trains a decoder, and an encoder that has not seen such scans may change too, within a low "
        "rank",
    ),
    Rule(
        float("inf"),
        "decoder",
        "full",
        "eight scans or more train a decoder well, and training the encoder too has gained nothing on scans that it "
        "knows",
        "eight scans or more let an encoder learn too that has not seen such scans, first layers slowest",
    ),
)


def choose_by_table(cases: int, gap: float | None) -> MethodChoice:
    """Return what the decision table says.

    Args:
        cases: size of the support set.
        gap: domain gap as of `FeatureStatistics.gap` (1: like pretraining; from `FAR` on: unlike); None if unknown.
    """
    rule = next(rule for rule in TABLE if cases <= rule.most_cases)
    far = gap is not None and gap >= FAR
    if gap is None:
        seen = "how far the scans are from those of pretraining is not known, so the number of scans decides alone"
    else:
        kind = "unlike" if far else "like"
        scale = f"1 is typical of pretraining, {FAR:g} or more is far"
        seen = f"domain gap {gap:.2f} ({scale}): {kind} those of pretraining"
    scans = "1 outlined scan" if cases == 1 else f"{cases} outlined scans"
    method, because = (rule.far, rule.because_far) if far else (rule.near, rule.because_near)
    return MethodChoice(method, {}, f"auto: {scans}; {seen}; {because}")


def resolve_method(
    method: str,
    arguments: Mapping[str, Any],
    *,
    support: Sequence[Case],
    plan: AdaptationPlan,
    preprocessing: Callable,
    encoder_weights: str | Path | None,
    seed: int = 0,
) -> MethodChoice:
    """Return the method that adaptation uses: the one named, or for "auto" the one that the policy picks.

    Args:
        method: a key of `ADAPTERS`, or "auto".
        arguments: the method's arguments; none with "auto".
        support: the support set.
        plan: the adaptation plan.
        preprocessing: transforms from {"image": path, "label": path} to the network's input.
        encoder_weights: pretrained weights, beside which feature statistics may lie; None for fresh ones.
        seed: of the windows that the domain gap is measured on.

    Raises:
        ValueError: if arguments are given to "auto".
    """
    if method != AUTO:
        return MethodChoice(method, dict(arguments))
    if arguments:
        raise ValueError(f"method auto takes no arguments, got {dict(arguments)}: name the method that they are for")
    statistics = None if encoder_weights is None else read_statistics(encoder_weights, plan.modality)
    if statistics is None:
        return choose_by_table(len(support), None)
    encoder = load_encoder(encoder_weights)
    gap = statistics.gap(encoder, support_windows(support, statistics.window, preprocessing, seed=seed), seed=seed)
    return choose_by_table(len(support), gap)


def support_windows(
    support: Iterable[Case], window: Sequence[int], preprocessing: Callable, *, seed: int = 0
) -> Iterator[Tensor]:
    """Yield for each support case `WINDOWS_PER_SCAN` windows (N, 1, D, H, W), drawn as for pretraining: anywhere."""
    for number, case in enumerate(support):
        image = preprocessing({"image": str(case.image), "label": str(case.label)})["image"]
        yield measured_windows(torch.as_tensor(image), window, np.random.default_rng([seed, number]))


def measured_windows(volume: Tensor, window: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Return `WINDOWS_PER_SCAN` windows (N, 1, D, H, W) of a scan (1, I, J, K), in which its features are measured.

    Statistics of pretraining scans and what is compared with them have to be drawn the same way.
    """
    return torch.stack([random_window(volume, window, rng) for _ in range(WINDOWS_PER_SCAN)])
