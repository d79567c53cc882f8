"""Adaptation methods by name."""

from typing import Any

from medfm3d.adaptation.adapter import Adapter
from medfm3d.adaptation.adaptformer import AdaptFormer
from medfm3d.adaptation.bias_tuning import BiasTuning
from medfm3d.adaptation.box_adapter import BoxAdapter
from medfm3d.adaptation.decoder_tuning import DecoderTuning
from medfm3d.adaptation.full_tuning import FullTuning
from medfm3d.adaptation.last_blocks import LastBlocks
from medfm3d.adaptation.linear_probe import LinearProbe
from medfm3d.adaptation.lora import DoRA, LoRA
from medfm3d.adaptation.prompt_tuning import PromptTuning

ADAPTERS: dict[str, type[Adapter]] = {
    adapter.name: adapter
    for adapter in (
        *(LinearProbe, BoxAdapter, DecoderTuning, BiasTuning, PromptTuning, AdaptFormer, LoRA, DoRA, LastBlocks),
        FullTuning,
    )
}


def create_adapter(name: str, **arguments: Any) -> Adapter:
    """Construct an adaptation method by name.

    Raises:
        ValueError: if there is no method of that name.
    """
    if name not in ADAPTERS:
        hint = "; auto is a policy, resolve_method names what it picks" if name == "auto" else ""
        raise ValueError(f"unknown adaptation method {name!r}: choose one of {', '.join(ADAPTERS)}{hint}")
    return ADAPTERS[name](**arguments)
