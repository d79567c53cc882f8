"""Adaptation methods on a Swin encoder: all work, but for the one that says why it cannot."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from medfm3d.adaptation import ADAPTERS, check_adapter, check_insertion, create_adapter
from medfm3d.encoders import create_encoder
from medfm3d.segmentation import Segmenter

TINY = {"feature_size": 12, "num_heads": (1, 2, 2, 3), "depths": (1, 2, 1, 1), "window_size": 2}
APPLICABLE = [name for name in ADAPTERS if name != "prompt-tuning"]


@pytest.fixture(scope="module")
def swin_segmenter(tiny_segmenter: Callable[..., Segmenter]) -> Callable[..., Segmenter]:
    return partial(tiny_segmenter, encoder="swin_tiny", encoder_arguments=TINY)


@pytest.mark.parametrize("name", APPLICABLE)
def test_methods_keep_their_contracts_on_a_swin(swin_segmenter, name: str) -> None:
    torch.manual_seed(0)
    check_insertion(create_adapter(name), create_encoder("swin_tiny", **TINY), torch.randn(1, 1, 32, 32, 32))
    check_adapter(create_adapter(name), swin_segmenter(name), torch.randn(1, 1, 32, 32, 32))


def test_prompts_have_no_place_in_windows(swin_segmenter) -> None:
    with pytest.raises(ValueError, match=r"SwinEncoder has no place for prompt tokens.*choose another"):
        swin_segmenter("prompt-tuning")


def test_low_rank_layers_are_the_linear_ones_of_all_stages_and_merge(swin_segmenter) -> None:
    network = swin_segmenter("lora", rank=2)
    wrapped = {key.split(".lora_A")[0] for key in network.encoder.state_dict() if "lora_A" in key}
    assert len(wrapped) == sum(TINY["depths"]) * 4
    assert {name.split("blocks.")[1].split(".", 1)[1] for name in wrapped} == {
        "attn.qkv",
        "attn.proj",
        "mlp.linear1",
        "mlp.linear2",
    }
    with torch.no_grad():
        for name, weight in network.encoder.named_parameters():
            if "lora_" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    x = torch.randn(1, 1, 32, 32, 64)
    mask = torch.zeros(1, 2, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(network.merged()(x), network(x), atol=1e-4, rtol=1e-4)
        # What a method inserts is there in masked pretraining, too.
        visible = network.encoder.forward_visible(x, mask)
        full = network.encoder(x)[-1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(visible, full, atol=1e-5, rtol=1e-5)


def test_last_blocks_are_those_of_the_coarsest_stage(swin_segmenter) -> None:
    network = swin_segmenter("last-blocks", blocks=1)
    (group, _) = network.method.parameter_groups(network)
    trained = {id(weight) for weight in group["params"]}
    assert trained == {id(weight) for weight in network.encoder.layers4.parameters()}
