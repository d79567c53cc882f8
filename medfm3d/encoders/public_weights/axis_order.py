"""Weights of networks that see the axes of an array in another order."""

from collections.abc import Mapping, Sequence

from torch import Tensor

REVERSED = (2, 1, 0)
ROTARY = (".attn.q_proj.", ".attn.k_proj.")


def permute_axes(
    tensors: Mapping[str, Tensor], order: Sequence[int], *, heads: int | None, grid: Sequence[int] | None
) -> dict[str, Tensor]:
    """Return weights that give for a permuted array what the given ones give for the array.

    The family of nnU-Net reads scans with SimpleITK, whose arrays are (z, y, x); those of medfm3d are (x, y, z). Turned
    weights cost nothing, where turning the scans would cost time at every window. Kernels are transposed; so are learnt
    positions; and of each head's queries and keys, the channels that carry the rotary position along an axis go to the
    place of that axis.

    Args:
        tensors: the weights; kernels are known by their five dimensions.
        order: the axis of the given weights' arrays that becomes axis 0, 1 and 2.
        heads: attention heads of a vision transformer with rotary positions; None for a convolutional network.
        grid: tokens along each axis of the given weights' arrays for which positions were learnt; None if none were.
    """
    return {name: _permuted(name, tensor, list(order), heads, grid) for name, tensor in tensors.items()}


def _permuted(name: str, tensor: Tensor, order: list[int], heads: int | None, grid: Sequence[int] | None) -> Tensor:
    if tensor.ndim == 5:
        return tensor.permute(0, 1, *(2 + axis for axis in order)).contiguous()
    if heads is not None and any(part in f".{name}" for part in ROTARY):
        thirds = tensor.unflatten(0, (heads, 3, -1))  # head, axis, frequency
        return thirds[:, order].flatten(0, 2).contiguous()
    if grid is not None and name.endswith("pos_embed"):
        places = tensor.unflatten(1, tuple(grid)).permute(0, *(1 + axis for axis in order), 4)
        return places.flatten(1, 3).contiguous()
    return tensor
