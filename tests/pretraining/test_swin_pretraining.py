"""Masked pretraining where units are coarser than the patches that are guessed, and SimMIM of either encoder."""

import numpy as np
import pytest
import torch

from medfm3d.encoders import Encoder, SwinEncoder, ViTEncoder, patchify
from medfm3d.pretraining import MaskedNetwork, create_masked_network, decay_groups, seeded_generator

DECODER = {"decoder_dim": 24, "decoder_depth": 1, "decoder_heads": 2}


def encoder_of(kind: str) -> Encoder:
    torch.manual_seed(0)
    if kind == "vit":
        return ViTEncoder(embed_dim=48, depth=2, num_heads=2, out_layers=(0, 1))
    return SwinEncoder(feature_size=12, num_heads=(1, 2, 2, 3), depths=(1, 2, 1, 1), window_size=2)


def network_of(method: str, kind: str) -> MaskedNetwork:
    return create_masked_network(method, encoder_of(kind), 0.75, DECODER)


def window(*sides: int) -> torch.Tensor:
    return torch.randn(1, 1, *sides, generator=torch.Generator().manual_seed(3))


CASES = [("mae", "swin"), ("simmim", "swin"), ("simmim", "vit")]


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_hidden_units_are_guessed_from_visible_ones(method: str, kind: str) -> None:
    network = network_of(method, kind)
    x = window(64, 32, 64)
    mask = network.draw_mask(x, seeded_generator(0))
    hidden = _voxels(network, mask, x)
    assert hidden.float().mean() == pytest.approx(0.75)
    patches = network.predict(x, mask).patches
    torn = torch.where(hidden, 7.0, x)
    assert torch.equal(patches, network.predict(torn, mask).patches)
    assert not torch.allclose(patches, network.predict(x + ~hidden * torch.randn_like(x), mask).patches)
    pictured = network.reconstruct(x, mask)
    assert torch.equal(pictured[~hidden], x[~hidden]) and not torch.equal(pictured[hidden], x[hidden])


def _voxels(network: MaskedNetwork, mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    voxels = mask.view(1, 1, *network.encoder.unit_grid(x.shape[2:]))
    for axis, side in enumerate(network.encoder.patch_size, start=2):
        voxels = voxels.repeat_interleave(side, dim=axis)
    return voxels


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_the_loss_is_that_of_the_voxels_that_the_predictions_stand_for(method: str, kind: str) -> None:
    network = network_of(method, kind)
    x = window(64, 32, 64) * 3 + 5
    mask = network.draw_mask(x, seeded_generator(1))
    prediction = network.predict(x, mask)
    errors = []
    for number, guess in zip(prediction.hidden[0].tolist(), prediction.patches[0].detach().numpy(), strict=True):
        i, j, k = (8 * place for place in np.unravel_index(number, (8, 4, 8)))
        patch = x[0, 0, i : i + 8, j : j + 8, k : k + 8].numpy().ravel()
        if method == "mae":
            errors.append(np.square(guess - (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)))
        else:
            errors.append(np.abs(guess - patch))
    assert len(set(prediction.hidden[0].tolist())) == 0.75 * 256
    assert network.loss(x, mask).item() == pytest.approx(np.mean(errors), rel=1e-4)


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_all_weights_learn_and_the_loss_falls(method: str, kind: str) -> None:
    network = network_of(method, kind)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-2, 2, side) for side in (64, 32, 64)], indexing="ij"))
    x = (torch.sin(3 * grid[0] + grid[1]) * torch.cos(2 * grid[2]))[None, None]
    mask = network.draw_mask(x, seeded_generator(0))
    decaying, others = decay_groups(network, 0.05)
    assert any(weight is network.mask_token for weight in others["params"])
    optimizer = torch.optim.AdamW([decaying, others], lr=3e-3)
    losses = []
    for _ in range(12):
        loss = network.loss(x, mask)
        optimizer.zero_grad()
        loss.backward()
        assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_the_decoder_sees_finer_maps_of_visible_units() -> None:
    """A change within a unit reaches the guesses without the coarsest token."""
    network = network_of("mae", "swin")
    x = window(64, 32, 64)
    mask = torch.tensor([[False, True, True, True]])
    torch.nn.init.zeros_(network.embedding.weight)
    before = network.predict(x, mask).patches
    x[..., 8:16, 16:24, 0:8] += torch.randn(8, 8, 8)
    assert not torch.equal(network.predict(x, mask).patches, before)


def test_a_vit_is_trained_as_before_there_were_coarser_units() -> None:
    network = network_of("mae", "vit")
    assert network.predicted_patch == (8, 8, 8) and network.patches_per_side == 1
    assert not [name for name in network.state_dict() if name.startswith("finer")]
    x = window(16, 32, 24)
    mask = network.draw_mask(x, seeded_generator(0))
    prediction = network.predict(x, mask)
    assert prediction.hidden[0].tolist() == mask[0].nonzero()[:, 0].tolist()
    assert torch.equal(network.hidden_patches(x, prediction.hidden), patchify(x, (8, 8, 8))[mask][None])


def test_methods_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of mae, simmim"):
        network_of("beit", "vit")
