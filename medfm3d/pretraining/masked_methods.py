"""Masked pretraining by name, for configs."""

from collections.abc import Mapping
from typing import Any

from medfm3d.encoders import Encoder
from medfm3d.pretraining.masked_autoencoder import MaskedAutoencoder
from medfm3d.pretraining.masked_network import MaskedNetwork
from medfm3d.pretraining.simmim import SimMIM

MASKED_METHODS: dict[str, type[MaskedNetwork]] = {"mae": MaskedAutoencoder, "simmim": SimMIM}


def create_masked_network(
    method: str, encoder: Encoder, mask_ratio: float, decoder: Mapping[str, Any] | None = None
) -> MaskedNetwork:
    """Construct the network of a method around an encoder.

    Args:
        method: "mae" computes the visible units alone and has a decoder; "simmim" computes all and has none.
        encoder: any encoder that the method applies to.
        mask_ratio: share of hidden units.
        decoder: size of the decoder, as the arguments of `MaskedAutoencoder`; "simmim" takes no notice of it.

    Raises:
        ValueError: if there is no method of that name, or the sizes do not fit each other.
    """
    if method not in MASKED_METHODS:
        raise ValueError(f"unknown method of masked pretraining {method!r}: choose one of {', '.join(MASKED_METHODS)}")
    sizes = dict(decoder or {}) if method == "mae" else {}
    return MASKED_METHODS[method](encoder, mask_ratio=mask_ratio, **sizes)
