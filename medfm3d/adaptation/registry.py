"""Adaptation methods by name."""

import inspect
from collections.abc import Mapping
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
        ValueError: if there is no method of that name, or it does not take these arguments.
    """
    if name not in ADAPTERS:
        hint = "; auto is a policy, resolve_method names what it picks" if name == "auto" else ""
        raise ValueError(f"unknown adaptation method {name!r}: choose one of {', '.join(ADAPTERS)}{hint}")
    known = _arguments(ADAPTERS[name])
    if unknown := sorted(set(arguments) - set(known)):
        takes = ", ".join(f"{argument} ({default})" for argument, default in known.items())
        raise ValueError(f"method {name} has no argument {', '.join(unknown)}: it takes {takes}")
    try:
        return ADAPTERS[name](**arguments)
    except TypeError as error:
        raise ValueError(f"method {name} cannot take {arguments}: {error}; give numbers, true or false") from error


def _arguments(adapter: type[Adapter]) -> Mapping[str, Any]:
    """Names and defaults of a method's arguments, those that it hands on to its base class included."""
    found: dict[str, Any] = {}
    for kind in adapter.__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        named = {p.name: p.default for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        found |= {name: default for name, default in named.items() if name not in found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found
