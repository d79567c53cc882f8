"""Every named encoder keeps the contract; the ViT is the one whose public weights exist."""

from pathlib import Path

import pytest
import torch
from dynamic_network_architectures.architectures.primus import Primus

from medfm3d.encoders import (
    ENCODERS,
    ViTEncoder,
    WeightsError,
    check_encoder,
    create_encoder,
    load_encoder,
    load_weights,
    read_header,
    save_encoder,
    save_weights,
)

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 4, "out_layers": (0, 1)}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"register_tokens": 0}, {"gradient_checkpointing": True}, {"absolute_window": (32, 32, 32)}],
    ids=["plain", "no registers", "checkpointing", "absolute positions"],
)
def test_the_vit_keeps_the_contract(arguments: dict) -> None:
    check_encoder(create_encoder("vit_tiny", **SMALL, **arguments))


@pytest.mark.parametrize(("family", "least", "most"), [("vit_", 5e6, 250e6), ("swin_", 2.1e6, 8e6)])
def test_named_sizes_grow(family: str, least: float, most: float) -> None:
    with torch.device("meta"):
        counts = [create_encoder(name).parameter_count() for name in ENCODERS if name.startswith(family)]
    assert counts == sorted(counts) and len(set(counts)) == len(counts)
    assert counts[0] < least and counts[-1] > most


def test_it_computes_what_primus_computes() -> None:
    """The same weights give the tokens that the original network gives behind its blocks."""
    torch.manual_seed(0)
    window = (32, 24, 16)
    primus = Primus(1, 48, (8, 8, 8), 2, 2, 4, input_shape=window, drop_path_rate=0.0, num_register_tokens=0).eval()
    ours = ViTEncoder(
        embed_dim=48, depth=2, num_heads=4, register_tokens=0, out_layers=(1,), absolute_window=window
    ).eval()
    theirs = primus.state_dict()
    ours.load_state_dict({name: theirs[name] for name in ours.state_dict()})
    tokens = []
    primus.eva.register_forward_hook(lambda *call: tokens.append(call[-1]))
    x = torch.randn(1, 1, *window)
    with torch.no_grad():
        primus(x)
        (feature_map,) = ours(x)
    expected = tokens[0][0] if isinstance(tokens[0], tuple) else tokens[0]
    torch.testing.assert_close(feature_map.flatten(2).transpose(1, 2), expected, atol=1e-6, rtol=1e-5)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 6"):
        ViTEncoder(embed_dim=50, num_heads=4)
    with pytest.raises(ValueError, match="equal sides"):
        ViTEncoder(patch_size=(8, 8, 4))
    with pytest.raises(ValueError, match="out_layers"):
        create_encoder("vit_tiny", out_layers=(3,))
    with pytest.raises(ValueError, match="vit_tiny"):
        create_encoder("resnet")
    with pytest.raises(ValueError, match="30"):
        create_encoder("vit_tiny", **SMALL)(torch.zeros(1, 1, 30, 32, 32))


def test_only_visible_tokens_are_computed() -> None:
    """The cost in tokens, not in time: attention sees a quarter of the patches."""
    encoder = create_encoder("vit_tiny", **SMALL).eval()
    lengths: list[int] = []
    encoder.eva.blocks[0].register_forward_hook(lambda block, inputs, output: lengths.append(output.shape[1]))
    x = torch.randn(1, 1, 32, 32, 32)
    mask = torch.ones(1, 64, dtype=torch.bool)
    mask[0, :16] = False
    encoder.forward_visible(x, mask)
    encoder(x)
    registers = encoder.eva.num_prefix_tokens
    assert lengths == [16 + registers, 64 + registers]


def test_weights_travel_with_their_origin(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = create_encoder("vit_tiny", **SMALL)
    path = tmp_path / "encoder.safetensors"
    save_encoder(encoder, path, name="vit_tiny", arguments=SMALL, provenance={"data": "none", "seed": 0})
    assert read_header(path)["provenance"]["data"] == "none"
    x = torch.randn(1, 1, 32, 24, 16)
    loaded = load_encoder(path)
    for ours, theirs in zip(loaded(x), encoder(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not [part for part in tmp_path.iterdir() if part != path]


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(torch.nn.Linear(3, 2), path, architecture="linear", arguments={}, provenance={})
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        load_weights(torch.nn.Linear(4, 2), path)
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        load_encoder(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        load_weights(torch.nn.Linear(3, 2), path)
    with pytest.raises(WeightsError, match="absent"):
        read_header(tmp_path / "absent.safetensors")
