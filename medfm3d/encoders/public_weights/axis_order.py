"""Weights of networks that see arrays as (z, y, x), turned into those of networks that see (x, y, z)."""

from collections.abc import Mapping, Sequence

from torch import Tensor

ROTARY = (".attn.q_proj.", ".attn.k_proj.")


def reverse_axes(tensors: Mapping[str, Tensor], *, heads: int | None, grid: Sequence[int] | None) -> dict[str, Tensor]:
    """Return weights that give for an array what the given ones give for it with its three axes in reverse order.

    The family of nnU-Net reads scans with SimpleITK, whose arrays are (z, y, x); those of medfm3d are (x, y, z). Turned
    weights cost nothing, where turning the scans would cost time at every window. Kernels are transposed; so are learnt
    positions; and of each head's queries and keys, the channels that carry the rotary position along the first axis and
    along the last change places.

    Args:
        tensors: the weights; kernels are known by their five dimensions.
        heads: attention heads of a vision transformer with rotary positions; None for a convolutional network.
        grid: tokens along each axis (z, y, x) for which positions were learnt; None if none were.
    """
    return {name: _reversed(name, tensor, heads, grid) for name, tensor in tensors.items()}


def _reversed(name: str, tensor: Tensor, heads: int | None, grid: Sequence[int] | None) -> Tensor:
    if tensor.ndim == 5:
        return tensor.permute(0, 1, 4, 3, 2).contiguous()
    if heads is not None and any(part in f".{name}" for part in ROTARY):
        thirds = tensor.unflatten(0, (heads, 3, -1))  # head, axis, frequency
        return thirds.flip(1).flatten(0, 2).contiguous()
    if grid is not None and name.endswith("pos_embed"):
        return tensor.unflatten(1, tuple(grid)).permute(0, 3, 2, 1, 4).flatten(1, 3).contiguous()
    return tensor
