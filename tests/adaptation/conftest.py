"""A segmenter small enough for tests, of any adaptation method."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from medfm3d.segmentation import Segmenter

TINY = {"embed_dim": 48, "depth": 2, "num_heads": 4, "out_layers": (0, 1)}


@pytest.fixture(scope="session")
def tiny_segmenter() -> Callable[..., Segmenter]:
    """Build a segmenter of a method, with the method's arguments, from seed 0."""

    def build(
        method: str,
        seed: int = 0,
        encoder: str = "vit_tiny",
        encoder_arguments: Mapping[str, Any] = TINY,
        **arguments: Any,
    ) -> Segmenter:
        torch.manual_seed(seed)
        return Segmenter(
            ["liver", "spleen"],
            encoder=encoder,
            encoder_arguments=encoder_arguments,
            adapter=method,
            adapter_arguments=arguments,
            widths=(8, 12, 16),
            feature_channels=6,
            precision="float32",
        ).eval()

    return build


@pytest.fixture(scope="session")
def perturb() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """Move every weight a little, as training does, so that nothing is zero or the identity any more."""

    def move(module: torch.nn.Module) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in module.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
        return module

    return move
