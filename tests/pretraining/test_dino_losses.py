"""The losses of self-distillation against other formulas and against another library."""

import math
import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
from lightly.loss.swav_loss import sinkhorn
from torch import Tensor

from medfm3d.pretraining.dino import PrototypeHead, dino_loss, ibot_loss, koleo_loss, sinkhorn_knopp

TEMPERATURE = 0.05


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_targets_use_all_prototypes_alike() -> None:
    logits = draw(60, 12) * 0.1
    logits[:, 3] += 0.5  # the teacher prefers one prototype
    plan = sinkhorn_knopp(logits, TEMPERATURE, iterations=200)
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(60))
    torch.testing.assert_close(plan.sum(dim=0), torch.full((12,), 5.0), rtol=1e-3, atol=0)
    assert (logits / TEMPERATURE).softmax(dim=1).sum(dim=0)[3] > 50


def test_three_rounds_are_those_of_another_library() -> None:
    logits = draw(20, 7, seed=1) * 0.2
    torch.testing.assert_close(sinkhorn_knopp(logits, TEMPERATURE), sinkhorn(logits, epsilon=TEMPERATURE))


def test_large_logits_do_not_overflow_and_no_samples_give_no_targets() -> None:
    assert torch.isfinite(sinkhorn_knopp(draw(8, 5) * 100, TEMPERATURE)).all()
    assert sinkhorn_knopp(torch.zeros(0, 5), TEMPERATURE).shape == (0, 5)


def _part_of_the_samples(rank: int, store: Path, results: multiprocessing.SimpleQueue) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    logits = draw(10, 6) * 0.2
    plan = sinkhorn_knopp(logits[:3] if rank == 0 else logits[3:], TEMPERATURE)
    results.put((rank, plan.tolist()))
    dist.destroy_process_group()


def test_processes_balance_their_samples_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # no second import of torch
    results = context.SimpleQueue()
    processes = [
        context.Process(target=_part_of_the_samples, args=(rank, tmp_path / "store", results)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    plans = dict(results.get() for _ in processes)
    for process in processes:
        process.join(timeout=60)
    together = torch.tensor(plans[0] + plans[1])
    torch.testing.assert_close(together, sinkhorn_knopp(draw(10, 6) * 0.2, TEMPERATURE))


def test_dino_loss_is_the_cross_entropy_of_all_pairs_of_different_views() -> None:
    student, teacher = draw(4, 3, 6), draw(2, 3, 6, seed=1)
    targets = (teacher / TEMPERATURE).softmax(dim=-1)
    pairs = [(g, v) for g in range(2) for v in range(4) if g != v]
    expected = sum(torch.nn.functional.cross_entropy(student[v] / 0.1, targets[g]) for g, v in pairs) / len(pairs)
    torch.testing.assert_close(dino_loss(student, targets), expected)
    theirs = DINOLoss(6, teacher_temp=TEMPERATURE)  # its centre is 0 at first: the targets are plain softmax
    torch.testing.assert_close(dino_loss(student, targets), theirs(list(teacher), list(student)))
    with pytest.raises(ValueError, match="no pair"):
        dino_loss(student[:1], targets[:1])


def test_ibot_loss_is_that_of_another_library() -> None:
    mask = torch.zeros(3, 2, 4, dtype=torch.bool)
    mask[0, 0, :3] = mask[2, 1, 1] = True  # three cells, none, one
    cells = int(mask.sum())
    student, teacher = draw(cells, 6), draw(cells, 6, seed=1)
    targets = (teacher / TEMPERATURE).softmax(dim=-1)
    ours = ibot_loss(student, targets, mask.flatten(1).nonzero()[:, 0], 3)
    torch.testing.assert_close(ours, IBOTPatchLoss(6, teacher_temp=TEMPERATURE)(teacher, student, mask))
    nothing = ibot_loss(student[:0], targets[:0], torch.zeros(0, dtype=torch.long), 3)
    assert nothing == 0


def test_koleo_is_the_logarithm_of_the_distance_to_the_nearest() -> None:
    features = draw(9, 5).requires_grad_()
    unit = (features / features.norm(dim=1, keepdim=True)).tolist()
    nearest = [min(math.dist(a, b) for j, b in enumerate(unit) if i != j) for i, a in enumerate(unit)]
    loss = koleo_loss(features)
    assert loss.item() == pytest.approx(-sum(map(math.log, nearest)) / 9, rel=1e-5)
    torch.testing.assert_close(loss, KoLeoLoss()(features), rtol=1e-4, atol=1e-5)
    loss.backward()
    moved = features.detach() - 0.1 * features.grad
    assert koleo_loss(moved) < loss  # against the gradient, neighbours part
    assert torch.isfinite(koleo_loss(torch.ones(3, 4)))
    with pytest.raises(ValueError, match="batch_size"):
        koleo_loss(features[:1])


def test_the_head_compares_directions() -> None:
    torch.manual_seed(0)
    head = PrototypeHead(10, prototypes=7, hidden_dim=8, bottleneck_dim=6)
    features = draw(5, 10)
    logits = head(features)
    assert logits.shape == (5, 7) and logits.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        head.prototypes *= 3
    torch.testing.assert_close(head(features), logits)
    with torch.no_grad():
        head.mlp[-1].bias.zero_()
        head.prototypes[2] = head.mlp(features)[1]
    assert head(features)[1, 2].item() == pytest.approx(1, abs=1e-5)
