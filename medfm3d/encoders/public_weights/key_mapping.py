"""From the names of a published checkpoint to those of an encoder, by rules that the catalogue holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medfm3d.encoders.weights import WeightsError


@dataclass(frozen=True)
class MappedTensors:
    """A checkpoint sorted by an entry's rules.

    Attributes:
        taken: the encoder's tensors, by their name in the encoder.
        ignored: names that the rules know to belong to something else, such as a decoder.
        unexpected: names that no rule knows.
    """

    taken: dict[str, Tensor]
    ignored: list[str]
    unexpected: list[str]


def map_names(tensors: Mapping[str, Tensor], rules: Mapping[str, Any]) -> MappedTensors:
    """Sort a checkpoint's tensors.

    Args:
        tensors: by their published names.
        rules: `strip`, prefixes to take off as long as one is there; `rename`, substitutions by regular expression;
            `take`, patterns of what is the encoder's with the name that it gets; `ignore`, patterns of what is not.

    Raises:
        WeightsError: if two different tensors get one name.
    """
    mapped = MappedTensors({}, [], [])
    for published, tensor in tensors.items():
        name = _stripped(published, rules["strip"])
        for pattern, replacement in rules["rename"]:
            name = re.sub(pattern, replacement, name)
        taken = next((re.sub(p, r, name) for p, r in rules["take"] if re.search(p, name)), None)
        if taken is None:
            known = any(re.search(pattern, name) for pattern in rules["ignore"])
            (mapped.ignored if known else mapped.unexpected).append(published)
            continue
        # Libraries that register a layer twice save its weights twice.
        if taken in mapped.taken and not torch.equal(mapped.taken[taken], tensor):
            raise WeightsError(
                f"two different tensors of the checkpoint are {taken} of the encoder, one is {published}"
            )
        mapped.taken[taken] = tensor
    return mapped


def _stripped(name: str, prefixes: list[str]) -> str:
    found = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
    return name if found is None else _stripped(name.removeprefix(found), prefixes)
