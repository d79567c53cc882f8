"""Published tensors laid into an encoder, with an account of what fits and what does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHOWN = 6  # names of each kind in a message


@dataclass(frozen=True)
class Fit:
    """What became of the weights of an encoder.

    Attributes:
        loaded: tensors by name, of the encoder's shapes; all that the encoder gets.
        adapted: what was made to fit: name and how.
        missing: weights of the encoder that the file does not have.
        reshaped: those that it has in another shape: name, its shape, the encoder's.
        unexpected: tensors of the file that are not the encoder's and not known to be something else's.
        share: of the encoder's weights, counted in numbers, that were loaded.
    """

    loaded: dict[str, Tensor]
    adapted: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    share: float = 0.0

    def summary(self) -> str:
        """Return the account in words, with the first few names of each kind."""
        kinds = {"missing": self.missing, "of another shape": self.reshaped, "unexpected": self.unexpected}
        lists = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names)
        return f"{self.share:.1%} of the encoder's weights loaded" + (f"; {lists}" if lists else "")


def fit_tensors(
    encoder: nn.Module, tensors: Mapping[str, Tensor], input_projections: Sequence[str], unexpected: Sequence[str] = ()
) -> Fit:
    """Match tensors with an encoder by name and shape.

    Where only the channels of the input differ, weights that meet it are repeated and divided by their number, so that
    equal channels give what one gave, or summed to one channel (as nnssl's adaptation does); learnt positions are
    resized trilinearly to the encoder's grid.

    Args:
        encoder: whose names and shapes count.
        tensors: by name in the encoder.
        input_projections: names of weights that meet the input.
        unexpected: names that are known already not to belong.
    """
    wanted = encoder.state_dict()
    weights = {name for name, _ in encoder.named_parameters()}
    loaded: dict[str, Tensor] = {}
    adapted: dict[str, str] = {}
    reshaped: list[str] = []
    for name in wanted.keys() & tensors.keys():
        have, want = tensors[name], wanted[name]
        made, how = have, None
        if have.shape != want.shape and name in input_projections:
            made, how = _for_channels(have, want.shape)
        elif have.shape != want.shape and name.endswith("pos_embed"):
            made, how = _resized_positions(have, want.shape)
        if made.shape != want.shape:
            reshaped.append(f"{name} {tuple(have.shape)} for {tuple(want.shape)}")
            continue
        loaded[name] = made.to(want.dtype)
        if how:
            adapted[name] = how
    total = sum(wanted[name].numel() for name in weights)
    return Fit(
        loaded,
        adapted,
        sorted(weights - tensors.keys()),
        sorted(reshaped),
        [*unexpected, *sorted(tensors.keys() - wanted.keys())],
        sum(wanted[name].numel() for name in weights & loaded.keys()) / total,
    )


def _for_channels(weight: Tensor, shape: torch.Size) -> tuple[Tensor, str | None]:
    have, want = weight.shape[1], shape[1]
    if have == 1:
        return weight.repeat(1, want, *[1] * (weight.ndim - 2)) / want, f"repeated over {want} channels"
    if want == 1:
        return weight.sum(dim=1, keepdim=True), f"summed over {have} channels"
    return weight, None


def _resized_positions(positions: Tensor, shape: torch.Size) -> tuple[Tensor, str | None]:
    have, want = _cube_side(positions.shape[1]), _cube_side(shape[1])
    if have is None or want is None:
        return positions, None
    volume = positions.transpose(1, 2).unflatten(2, (have,) * 3)
    resized = F.interpolate(volume, size=(want,) * 3, mode="trilinear")
    return resized.flatten(2).transpose(1, 2), f"resized from {have} to {want} positions along each axis"


def _cube_side(count: int) -> int | None:
    side = round(count ** (1 / 3))
    return side if side**3 == count else None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
