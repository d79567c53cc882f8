"""Tensors without metadata."""

from monai.data import MetaTensor
from torch import Tensor


def plain_tensor(x: Tensor) -> Tensor:
    """Return a MetaTensor's values as a plain tensor that shares its memory, and any other tensor as it is.

    A MetaTensor's bookkeeping at every operation costs more than a small convolution.
    """
    return x.as_tensor() if isinstance(x, MetaTensor) else x
