"""The Swin encoder is MONAI's network, and its visible pass is the same network on fewer tokens."""

from typing import Any

import pytest
import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import SwinTransformer
from torch.utils.flop_counter import FlopCounterMode

from medfm3d.encoders import SwinEncoder, check_encoder

TINY = {"feature_size": 12, "num_heads": (1, 2, 3, 4), "depths": (2, 2, 1, 2), "window_size": 4}


def tiny_swin(**arguments: Any) -> SwinEncoder:
    """A Swin whose positions, scales and biases are no longer alike, as those of a trained one are not."""
    torch.manual_seed(0)
    encoder = SwinEncoder(**{**TINY, **arguments}).eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.2 * float(weight.std(correction=0)) + 0.05)
    return encoder


def hide_half(encoder: SwinEncoder, x: torch.Tensor) -> torch.Tensor:
    units = int(torch.tensor(encoder.unit_grid(x.shape[2:])).prod())
    return torch.stack([torch.randperm(units) < units // 2 for _ in range(len(x))])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"use_v2": True, "depths": (1, 2, 1, 1)},
        {"window_size": (2, 4, 3), "merging": "mergingv2", "patch_norm": True, "gradient_checkpointing": True},
    ],
    ids=["v1", "v2", "uneven windows"],
)
def test_the_swin_keeps_the_contract(arguments: dict) -> None:
    check_encoder(tiny_swin(**{"patch_size": 1, **arguments}))


@pytest.mark.parametrize("arguments", [{"window_size": 7}, {"use_v2": True, "merging": "mergingv2"}], ids=["v1", "v2"])
def test_it_is_the_swin_of_a_public_checkpoint(arguments: dict) -> None:
    """Keys behind `swinViT.` are the encoder's, and its maps are what SwinUNETR hands to its decoder."""
    torch.manual_seed(0)
    sizes = {name: value for name, value in TINY.items() if name != "window_size"}
    downsample = arguments.get("merging", "merging")
    kept = {"window_size": 4, **{name: value for name, value in arguments.items() if name != "merging"}}
    public = SwinUNETR(1, 2, **sizes, **kept, downsample=downsample).eval()
    encoder = SwinEncoder(**{**TINY, **arguments}).eval()
    prefix = "swinViT."
    encoder.load_state_dict({k.removeprefix(prefix): v for k, v in public.state_dict().items() if k.startswith(prefix)})
    assert isinstance(public.swinViT, SwinTransformer)
    x = torch.randn(1, 1, 64, 32, 32)
    with torch.no_grad():
        for ours, theirs in zip(encoder(x), public.swinViT(x, public.normalize), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("window", [4, 7, (8, 3, 5)], ids=["dividing units", "of public weights", "uneven"])
def test_with_nothing_hidden_the_visible_pass_is_the_ordinary_one(window: Any) -> None:
    """In every map, so that windows that reach over units, wrap around, shrink or are padded all count alike."""
    encoder = tiny_swin(window_size=window, patch_size=1)
    x = torch.randn(2, 1, 48, 32, 16)
    with torch.no_grad():
        ordinary = encoder(x)
        visible = encoder.visible_pyramid(x, torch.zeros(2, 6, dtype=torch.bool))
    for full, part in zip(ordinary, visible, strict=True):
        cells = part.shape[-1]
        units = full.unflatten(4, (1, cells)).unflatten(3, (2, cells)).unflatten(2, (3, cells))
        units = units.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(1, 3)
        torch.testing.assert_close(part, units, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"window_size": 7}, {"use_v2": True}], ids=["v1", "public window", "v2"])
def test_units_see_visible_neighbours_and_nothing_of_hidden_ones(arguments: dict) -> None:
    encoder = tiny_swin(patch_size=1, **arguments)
    x = torch.randn(1, 1, 16, 32, 48)
    hidden = torch.tensor([[False, False, True, True, False, True]])
    with torch.no_grad():
        before = encoder.visible_pyramid(x, hidden)
        torn = x.clone()
        torn[..., :16, 32:] = torch.nan  # unit 2
        torn[..., 16:, :16] = 1e6  # unit 3
        assert all(map(torch.equal, before, encoder.visible_pyramid(torn, hidden)))
        x[..., :16, :16] += 1  # unit 0, whose neighbour is unit 1
        after = encoder.forward_visible(x, hidden)
    assert (before[-1][:, 1].flatten(1) - after[:, 1]).abs().max() > 1e-4


def test_gradients_of_the_visible_pass_are_those_of_the_ordinary_one() -> None:
    encoder = tiny_swin(patch_size=1, window_size=(4, 7, 3))
    x = torch.randn(1, 1, 32, 16, 16)
    weight = torch.randn(2, encoder.embed_dim)
    gradients = []
    for tokens in (
        encoder(x)[-1].flatten(2).transpose(1, 2),
        encoder.forward_visible(x, torch.zeros(1, 2, dtype=torch.bool)),
    ):
        encoder.zero_grad()
        (tokens[0] * weight).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in encoder.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize(("arguments", "most"), [({}, 0.30), ({"window_size": 7}, 0.45), ({"use_v2": True}, 0.45)])
def test_hidden_units_cost_nothing(arguments: dict, most: float) -> None:
    """Forward and backward count operations in proportion to the quarter of the units that is visible."""
    encoder = tiny_swin(patch_size=1, **arguments)
    x = torch.randn(1, 1, 64, 32, 32)
    mask = torch.ones(1, 16, dtype=torch.bool)
    mask[0, [1, 6, 11, 12]] = False

    def operations(network: SwinEncoder, masked: torch.Tensor | None) -> int:
        with FlopCounterMode(display=False) as counter:
            tokens = network(x.to("meta"))[-1] if masked is None else network.forward_visible(x, masked)
            tokens.square().sum().backward()
        return counter.get_total_flops()

    visible = operations(encoder, mask)
    assert 0 < visible < most * operations(encoder.to("meta"), None)  # counted without computing


def test_a_trained_visible_pass_drops_whole_samples_on_stochastic_depth() -> None:
    """As the ordinary pass does: a unit of a sample whose branch is dropped has no other fate than its neighbours."""
    encoder = tiny_swin(patch_size=1, drop_path_rate=0.9).train()
    x = torch.randn(1, 1, 16, 16, 16).expand(1, 1, 16, 16, 16).repeat(1, 1, 1, 1, 4)
    torch.manual_seed(3)
    tokens = encoder.forward_visible(x, torch.tensor([[False, True, True, False]]))
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1], atol=1e-5, rtol=1e-4)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        SwinEncoder(patch_size=3)
    with pytest.raises(ValueError, match="name 4 stages"):
        SwinEncoder(depths=(2, 2, 2))
    with pytest.raises(ValueError, match="multiples of num_heads"):
        SwinEncoder(feature_size=20, num_heads=(3, 6, 12, 24))
    with pytest.raises(ValueError, match="48"):
        tiny_swin()(torch.zeros(1, 1, 48, 32, 32))
