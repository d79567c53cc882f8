"""Adaptation methods by name."""

from typing import Any

from medfm3d.adaptation.adapter import Adapter
from medfm3d.adaptation.box_adapter import BoxAdapter
from medfm3d.adaptation.decoder_tuning import DecoderTuning
from medfm3d.adaptation.full_tuning import FullTuning
from medfm3d.adaptation.linear_probe import LinearProbe

ADAPTERS: dict[str, type[Adapter]] = {
    adapter.name: adapter for adapter in (LinearProbe, BoxAdapter, DecoderTuning, FullTuning)
}


def create_adapter(name: str, **arguments: Any) -> Adapter:
    """Construct an adaptation method by name.

    Raises:
        ValueError: if there is no method of that name.
    """
    if name not in ADAPTERS:
        raise ValueError(f"unknown adaptation method {name!r}: choose one of {', '.join(ADAPTERS)}")
    return ADAPTERS[name](**arguments)
