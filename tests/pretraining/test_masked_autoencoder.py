import numpy as np
import pytest
import torch

from medfm3d.encoders import ViTEncoder, patchify
from medfm3d.pretraining import (
    MaskedAutoencoder,
    decay_groups,
    patch_scale,
    random_mask,
    seeded_generator,
    warmup_cosine,
)


def test_every_sample_hides_the_same_share() -> None:
    mask = random_mask(5, 64, 0.75, seeded_generator(3))
    assert mask.shape == (5, 64) and mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [48] * 5
    assert not torch.equal(mask[0], mask[1])


def test_masks_follow_from_their_seed() -> None:
    assert torch.equal(random_mask(2, 27, 0.5, seeded_generator(1, 2)), random_mask(2, 27, 0.5, seeded_generator(1, 2)))
    assert not torch.equal(
        random_mask(2, 27, 0.5, seeded_generator(1, 2)), random_mask(2, 27, 0.5, seeded_generator(1, 3))
    )


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.99, 1.0])
def test_a_mask_that_hides_all_or_nothing_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="at least one must be hidden"):
        random_mask(1, 8, ratio, seeded_generator(0))


def test_hidden_voxels_have_no_influence_on_latent_and_prediction(network: MaskedAutoencoder) -> None:
    x = torch.randn(2, 1, 32, 16, 24)
    mask = network.draw_mask(x, seeded_generator(0))
    hidden_voxels = (network.hide(torch.ones_like(x) + x.abs(), mask) != 1 + x.abs()).float()
    assert 0.7 < hidden_voxels.mean() < 0.8
    other = x + 5 * hidden_voxels * torch.randn_like(x)
    assert torch.equal(network.encoder.forward_visible(x, mask), network.encoder.forward_visible(other, mask))
    assert torch.equal(network.predict(x, mask).patches, network.predict(other, mask).patches)


def test_visible_voxels_have_influence_and_hidden_units_are_told_apart(network: MaskedAutoencoder) -> None:
    x = torch.randn(1, 1, 32, 32, 32)
    mask = network.draw_mask(x, seeded_generator(0))
    patches = network.predict(x, mask).patches
    assert (patches[:, 0] - patches[:, 1]).abs().max() > 1e-3
    assert not torch.allclose(patches, network.predict(x + torch.randn_like(x), mask).patches)


def test_loss_is_that_of_normalised_hidden_patches(network: MaskedAutoencoder) -> None:
    x = torch.randn(2, 1, 16, 24, 16) * 40 + 7
    mask = network.draw_mask(x, seeded_generator(0))
    prediction = network.predict(x, mask)
    expected = []
    for sample in range(2):
        numbers = np.flatnonzero(mask[sample].numpy())
        assert prediction.hidden[sample].tolist() == numbers.tolist()
        for number, predicted in zip(numbers, prediction.patches[sample].detach().numpy(), strict=True):
            i, j, k = np.unravel_index(number, (2, 3, 2))
            patch = x[sample, 0, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8, 8 * k : 8 * k + 8].numpy().ravel()
            expected.append((predicted - (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)) ** 2)
    assert network.loss(x, mask).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_loss_has_no_gradient_at_visible_targets(network: MaskedAutoencoder) -> None:
    x = torch.randn(1, 1, 16, 16, 16)
    mask = network.draw_mask(x, seeded_generator(0))
    network.head.weight.data.zero_()  # then the prediction does not depend on the input, and targets alone do
    x.requires_grad_()
    network.loss(x, mask).backward()
    moved = patchify(x.grad, network.encoder.patch_size).abs().sum(-1) > 0
    assert torch.equal(moved, mask)


def test_patch_without_contrast_has_target_zero() -> None:
    patches = torch.full((1, 1, 512), -3.0)
    mean, deviation = patch_scale(patches)
    assert ((patches - mean) / deviation).abs().max() == 0


def test_reconstruction_keeps_what_is_visible_and_the_scale_of_what_is_not(network: MaskedAutoencoder) -> None:
    x = torch.randn(2, 1, 32, 32, 32) * 3 + 100
    mask = network.draw_mask(x, seeded_generator(0))
    pictured = network.reconstruct(x, mask)
    assert pictured.shape == x.shape
    before, after = (patchify(volume, network.encoder.patch_size) for volume in (x, pictured))
    assert torch.equal(before[~mask], after[~mask])
    assert not torch.equal(before[mask], after[mask])
    assert after[mask].mean() == pytest.approx(100, abs=3)


def test_forward_without_a_mask_is_repeatable(network: MaskedAutoencoder) -> None:
    x = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(network(x), network(x))
    assert network(x).shape == x.shape


def test_loss_falls_when_one_batch_is_learnt(network: MaskedAutoencoder) -> None:
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-2, 2, 32)] * 3, indexing="ij"))
    x = torch.sin(3 * grid[0] + grid[1]) * torch.cos(2 * grid[2])[None, None]
    mask = network.draw_mask(x, seeded_generator(0))
    optimizer = torch.optim.AdamW(decay_groups(network, 0.05), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = network.loss(x, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8
    assert losses[-1] < 0.75 * losses[0]


def test_all_weights_are_trained(network: MaskedAutoencoder) -> None:
    x = torch.randn(1, 1, 32, 32, 32)
    network.loss(x, network.draw_mask(x, seeded_generator(0))).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_decoder_that_cannot_have_rotary_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 6 x decoder_heads"):
        MaskedAutoencoder(ViTEncoder(embed_dim=48, depth=1, num_heads=2), decoder_dim=32, decoder_heads=2)


def test_norms_biases_and_tokens_do_not_decay(network: MaskedAutoencoder) -> None:
    decaying, others = decay_groups(network, 0.05)
    assert decaying["weight_decay"] == 0.05 and others["weight_decay"] == 0
    names = {id(weight): name for name, weight in network.named_parameters()}
    assert len(decaying["params"]) + len(others["params"]) == len(names)
    kept = {names[id(weight)] for weight in others["params"]}
    assert {"mask_token", "encoder.register_tokens", "head.bias", "decoder.norm.weight"} <= kept
    assert "head.weight" not in kept


def test_learning_rate_rises_then_falls_to_nothing() -> None:
    factor = warmup_cosine(10, 100)
    rates = [factor(step) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates.index(max(rates)) == 10 and rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)
    with pytest.raises(ValueError, match="shorter than the run"):
        warmup_cosine(100, 100)
