"""The optimiser of adaptation against AdamW and against timm's Muon."""

import copy

import pytest
import torch
from timm.optim.muon import Muon, zeropower_via_newtonschulz
from torch import nn

from medfm3d.adaptation import MuonAdamW
from medfm3d.adaptation.muon import orthogonalise


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(5, 12, 3), nn.InstanceNorm3d(12, affine=True), nn.ReLU(), nn.Conv3d(12, 2, 1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5, first: int = 0, scaler=None) -> None:
    for step in range(first, first + steps):
        inputs = torch.randn(2, 5, 6, 6, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss = (model(inputs) - 1).square().mean()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_groups_that_do_not_ask_for_it_are_adamws() -> None:
    ours, theirs = network(), network()
    train(ours, MuonAdamW(ours.parameters(), lr=0.01))
    train(theirs, torch.optim.AdamW(theirs.parameters(), lr=0.01, fused=True))
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=0)


def test_matrices_take_the_steps_of_timms_muon_and_the_rest_those_of_adamw() -> None:
    ours, theirs = network(), network()
    group = {"params": list(ours.parameters()), "lr": 0.01, "muon": True}
    train(ours, MuonAdamW([group], betas=(0.95, 0.999), weight_decay=0.1), steps=3)
    wide, others = theirs[0].weight, [weight for weight in theirs.parameters() if weight is not theirs[0].weight]
    muon = Muon([wide], lr=0.01, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients="original")
    adamw = torch.optim.AdamW(others, lr=0.01, betas=(0.95, 0.999), weight_decay=0.1)
    for step in range(3):
        train(theirs, muon, steps=1, first=step)
        adamw.step()
        adamw.zero_grad()
    start = network()[0].weight
    moved = (ours[0].weight - start).norm()
    assert moved > 0.1
    assert (ours[0].weight - wide).norm() < 0.02 * moved  # timm iterates in bfloat16
    for mine, their in zip(ours[1:].parameters(), theirs[1:].parameters(), strict=True):
        torch.testing.assert_close(mine, their, rtol=0.02, atol=2e-4)


@pytest.mark.parametrize("shape", [(24, 160), (160, 24), (16, 16)])
@pytest.mark.parametrize("decades", [0, 3, 6])
def test_the_iteration_is_that_of_timm(shape: tuple[int, int], decades: int) -> None:
    torch.manual_seed(2)
    rows, columns = (torch.linalg.qr(torch.randn(side, min(shape)))[0] for side in shape)
    matrix = 50 * rows * torch.logspace(0, -decades, min(shape)) @ columns.T
    expected = zeropower_via_newtonschulz(matrix, 5, [(3.4445, -4.775, 2.0315)], dtype=torch.float32)
    assert (orthogonalise(matrix) - expected).norm() < 1e-3 * expected.norm()
    assert not orthogonalise(torch.zeros(shape)).any()


def test_a_step_has_singular_values_near_one_and_the_length_of_adamws() -> None:
    weight = nn.Parameter(torch.zeros(16, 4, 3, 3, 3))
    torch.manual_seed(1)
    # Of rank 16, with singular values from 1 to 1000.
    rows, columns = torch.linalg.qr(torch.randn(16, 16))[0], torch.linalg.qr(torch.randn(108, 16))[0]
    weight.grad = (rows * torch.logspace(0, 3, 16) @ columns.T).reshape(weight.shape)
    MuonAdamW([{"params": [weight], "lr": 1.0, "muon": True}]).step()
    values = torch.linalg.svdvals(weight.detach().flatten(1)) / (0.2 * 108**0.5)
    assert values.min() > 0.3 and values.max() < 1.3
    assert weight.detach().square().mean().sqrt() == pytest.approx(0.2, rel=0.25)


def test_it_goes_on_from_a_state_dict() -> None:
    model = network()
    optimizer = MuonAdamW(model.parameters(), lr=0.01, muon=True)
    train(model, optimizer)
    again = copy.deepcopy(model)
    resumed = MuonAdamW(again.parameters(), lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its in ((model, optimizer), (again, resumed)):
        train(one, its, first=5)
    torch.testing.assert_close(weights(again), weights(model), rtol=0, atol=0)


def test_gradients_are_unscaled_before_they_enter_momenta() -> None:
    plain, scaled = network(), network()
    for model, scaler in ((plain, None), (scaled, torch.amp.GradScaler("cpu", init_scale=4096.0, growth_interval=2))):
        train(model, MuonAdamW(model.parameters(), lr=0.01, muon=True), scaler=scaler)
    torch.testing.assert_close(weights(scaled), weights(plain), rtol=1e-4, atol=1e-5)


def test_schedules_reach_all_weights_and_closures_are_called() -> None:
    model = network()
    optimizer = MuonAdamW(model.parameters(), lr=0.01, muon=True)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=10)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = weights(model)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(1, 5, 6, 6, 6)).square().mean()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 0
    torch.testing.assert_close(weights(model), before, rtol=0, atol=0)
    assert all(weight.grad is not None for weight in model.parameters())
