"""Priors as constraints in training: each penalty points where it should, by its value and by its gradient."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import Tensor

from medfm3d.adaptation import AdaptationPlan, KeepBackgroundInBoxd, PriorLoss, with_training_priors
from medfm3d.adaptation.prior_penalties import (
    contact,
    far_mass,
    loose_pieces,
    soft_cavities,
    unlikely_volume,
    wrong_order,
)
from medfm3d.cohorts import read_cohort

SIDE = 16


def block(low: tuple[int, int, int], high: tuple[int, int, int]) -> Tensor:
    mask = torch.zeros(SIDE, SIDE, SIDE)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return mask


def maps(*organs: Tensor) -> Tensor:
    """Background and organs as (1, C, D, H, W)."""
    stacked = torch.stack(organs)
    return torch.cat([(1 - stacked.sum(dim=0, keepdim=True)).clamp(min=0), stacked])[None]


OUTLINE = block((5, 5, 5), (10, 10, 10))


def gradient(penalty, probabilities: Tensor) -> tuple[float, Tensor]:
    probabilities = probabilities.clone().requires_grad_(True)
    value = penalty(probabilities)
    (slope,) = torch.autograd.grad(value, probabilities)
    return value.item(), slope


def test_location_takes_mass_that_is_far_and_leaves_mass_that_is_near() -> None:
    stray = block((13, 13, 13), (15, 15, 15))
    value, slope = gradient(lambda p: far_mass(p, maps(OUTLINE), [1], reach=2), maps(OUTLINE * 0.9 + stray * 0.6))
    assert value > 0 and (slope[0, 1][stray > 0] > 0).all() and (slope[0, 1, 3:12, 3:12, 3:12] == 0).all()
    assert far_mass(maps(OUTLINE), maps(OUTLINE), [1], reach=2) == 0
    nowhere = maps(torch.zeros_like(OUTLINE))
    assert far_mass(maps(stray), nowhere, [1], reach=2) == 0  # the window does not show where the organ is


def test_adjacency_parts_strangers_and_lets_neighbours_be() -> None:
    one, other = block((2, 4, 4), (8, 10, 10)), block((8, 4, 4), (14, 10, 10))
    value, slope = gradient(lambda p: contact(p, [(1, 2)]), maps(one * 0.9, other * 0.8))
    assert value > 0
    assert slope[0, 1, 7, 6, 6] > 0 and slope[0, 2, 8, 6, 6] > 0 and slope[0, 1, 4, 6, 6] == 0
    apart = block((10, 4, 4), (14, 10, 10))
    assert contact(maps(one, apart), [(1, 2)]) == 0 and contact(maps(one, other), []) == 0


def test_laterality_takes_mass_beyond_the_partner() -> None:
    left, right = block((2, 5, 5), (5, 9, 9)), block((10, 5, 5), (13, 9, 9))
    outlines = maps(left, right)
    swapped = maps(right * 0.6, left * 0.6)
    value, slope = gradient(lambda p: wrong_order(p, outlines, [(1, 2)]), swapped)
    assert value > 0.1 and slope[0, 1, 12, 6, 6] > 0 and slope[0, 2, 2, 6, 6] > 0
    assert slope[0, 1, 3, 6, 6] < 0  # mass on its own side lessens the share
    assert wrong_order(maps(left, right), outlines, [(1, 2)]) == 0
    assert wrong_order(swapped, maps(left, torch.zeros_like(right)), [(1, 2)]) == 0


def test_volume_draws_towards_the_outline_of_whole_organs_alone() -> None:
    outlines = maps(OUTLINE)
    for factor, sign in ((0.3, -1), (3.0, 1)):
        grown = maps(OUTLINE * 0.3 if factor < 1 else block((3, 3, 3), (12, 12, 12)) * 0.9)
        value, slope = gradient(lambda p: unlikely_volume(p, outlines, [1], [0.3]), grown)
        assert value > 0 and (torch.sign(slope[0, 1]) == sign).all()
    assert unlikely_volume(maps(OUTLINE * 0.9), outlines, [1], [0.3]) == 0  # within the spread
    cut = block((0, 5, 5), (6, 10, 10))
    assert unlikely_volume(maps(cut * 0.1), maps(cut), [1], [0.3]) == 0


def test_components_take_loose_pieces_and_leave_what_hangs_together() -> None:
    loose, bridge = block((12, 12, 12), (14, 14, 14)), block((9, 9, 9), (13, 13, 13))
    value, slope = gradient(lambda p: loose_pieces(p, maps(OUTLINE), [1]), maps((OUTLINE + loose).clamp(max=1) * 0.8))
    assert value > 0 and (slope[0, 1][loose > 0] > 0).all() and (slope[0, 1][OUTLINE > 0] <= 0).all()
    hanging = torch.maximum(OUTLINE, torch.maximum(loose, bridge)) * 0.8
    assert loose_pieces(maps(hanging), maps(OUTLINE), [1]) == pytest.approx(0, abs=1e-6)


def test_topology_fills_rooms_and_leaves_tunnels() -> None:
    room, tunnel = OUTLINE.clone(), OUTLINE.clone()
    room[7, 7, 7] = tunnel[:, 7, 7] = 0
    value, slope = gradient(lambda p: soft_cavities(p, [1]), maps(room * 0.9))
    assert value > 0 and slope[0, 1, 7, 7, 7] < 0
    assert soft_cavities(maps(tunnel * 0.9), [1]) == pytest.approx(0, abs=1e-6)
    assert soft_cavities(maps(OUTLINE * 0.9), [1]) == pytest.approx(0, abs=1e-6)


def test_priors_are_content_in_the_largest_window() -> None:
    """Floods from its faces, and along an organ half as long as it, must come through."""
    nothing = torch.zeros(64, 64, 64)
    assert soft_cavities(maps(nothing), [1]) == 0
    long = nothing.clone()
    long[4:44, 30:34, 30:34] = 1
    start = nothing.clone()
    start[4:8, 30:34, 30:34] = 1
    assert soft_cavities(maps(long), [1]) == 0 and loose_pieces(maps(long), maps(start), [1]) == 0
    room = nothing.clone()
    room[30:35, 30:35, 30:35] = 1
    room[32, 32, 32] = 0
    assert soft_cavities(maps(room), [1]) > 0


def test_with_priors_a_step_removes_what_they_forbid(small_cohort: Path) -> None:
    cohort = read_cohort(small_cohort)
    data = [{"image": str(case.image), "label": str(case.label)} for case in cohort.cases[:3]]
    plan = AdaptationPlan({"cube": 2, "ball": 5}, "MR", (1.0, 1.2, 1.5), (16, 16, 16))
    base = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    names = ["location", "adjacency", "laterality", "volume", "components", "topology"]
    loss = with_training_priors(base, names, data, plan, weight=0.5)
    assert isinstance(loss, PriorLoss) and with_training_priors(base, [], [], plan) is base
    target = (OUTLINE[None, None] + 2 * block((11, 5, 5), (14, 9, 9))[None, None]).long()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, SIDE, SIDE, SIDE, generator=generator).requires_grad_(True)
    penalties = loss.penalties(logits, target)
    assert set(penalties) == set(names) and all(torch.isfinite(value) and value >= 0 for value in penalties.values())
    expected = base(logits, target) + 0.5 * sum(penalties.values())
    assert loss(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)
    optimizer = torch.optim.SGD([logits], lr=50.0)
    first = sum(penalties.values()).item()
    for _ in range(5):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    assert sum(loss.penalties(logits, target).values()).item() < first
    with pytest.raises(ValueError, match="unknown priors"):
        with_training_priors(base, ["magic"], data, plan)


def test_background_far_from_all_organs_is_forgotten() -> None:
    label = torch.zeros(1, 30, 30, 30, dtype=torch.int32)
    label[0, 10:14, 10:14, 10:14] = 1
    flat = np.arange(27000)
    classes = [flat[label.flatten().numpy() == 0], flat[label.flatten().numpy() == 1]]
    data = {"label": label, "label_cls_indices": classes}
    background, organ = KeepBackgroundInBoxd("label", margin=3)(data)["label_cls_indices"]
    places = np.stack(np.unravel_index(background, (30, 30, 30)))
    assert places.min() == 7 and places.max() == 16 and len(background) == 10**3 - 4**3 and len(organ) == 64
    empty = {"label": torch.zeros_like(label), "label_cls_indices": [flat, flat[:0]]}
    assert len(KeepBackgroundInBoxd("label")(empty)["label_cls_indices"][0]) == 27000
