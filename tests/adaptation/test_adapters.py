"""Every adaptation method keeps the contract on a real segmenter."""

from typing import Any

import pytest
import torch

from medfm3d.adaptation import ADAPTERS, AdaptableNetwork, BoxAdapter, SpatialAdapter, check_adapter, create_adapter
from medfm3d.segmentation import Segmenter

TINY = {"embed_dim": 48, "depth": 2, "num_heads": 4, "out_layers": (0, 1)}


def tiny_segmenter(method: str, organs: tuple[str, ...] = ("liver", "spleen")) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(
        organs, encoder_arguments=TINY, adapter=method, widths=(8, 12, 16), feature_channels=6, precision="float32"
    )


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_method_keeps_the_contract(name: str) -> None:
    segmenter = tiny_segmenter(name)
    check_adapter(segmenter.method, segmenter, torch.randn(2, 1, 16, 24, 16))


def test_the_check_finds_methods_that_break_their_word() -> None:
    class TrainsBehindTheCache(BoxAdapter):
        def parameter_groups(self, network: AdaptableNetwork) -> list[dict[str, Any]]:
            (group,) = super().parameter_groups(network)
            return [{**group, "params": [*group["params"], *network.decoder.parameters()]}]

    class FreezesNothing(BoxAdapter):
        def freeze(self, network: AdaptableNetwork) -> None:
            pass

    for method, promise in ((TrainsBehindTheCache(), "weights must change"), (FreezesNothing(), "after freeze")):
        segmenter = tiny_segmenter("box-adapter")
        with pytest.raises(AssertionError, match=promise):
            check_adapter(method, segmenter, torch.randn(1, 1, 16, 16, 16))


def test_the_spatial_adapter_starts_as_the_identity() -> None:
    x = torch.randn(1, 6, 8, 8, 8)
    adapter = SpatialAdapter(6)
    assert torch.equal(adapter(x), x)
    assert sum(p.numel() for p in adapter.parameters()) == 2 * 6 * 6 * 27


def test_the_box_adapter_trains_little() -> None:
    segmenter = Segmenter(["liver"], adapter="box-adapter")
    segmenter.method.freeze(segmenter)
    trained = sum(p.numel() for p in segmenter.parameters() if p.requires_grad)
    total = sum(p.numel() for p in segmenter.parameters())
    assert trained < 0.005 * total


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="box-adapter"):
        create_adapter("prompt")


@pytest.mark.parametrize(
    ("method", "arguments", "told"),
    [
        ("decoder", {"rank": 4}, r"decoder has no argument rank: it takes learning_rate \(0\.003\)"),
        ("lora", {"rnak": 4}, r"lora has no argument rnak: it takes rank \(8\), .*encoder_learning_rate"),
        ("dora", {"depth": 1, "tokens": 2}, "dora has no argument depth, tokens"),
        ("lora", {"rank": "abc"}, "lora cannot take {'rank': 'abc'}"),
    ],
)
def test_arguments_that_a_method_does_not_take_are_refused(method: str, arguments: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        create_adapter(method, **arguments)
