"""What a method inserts into an encoder, and where the encoder's own weights lie after that."""

from torch import nn

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter
from medfm3d.encoders import Encoder, RescaledEncoder


def insert_into(encoder: Encoder, method: Adapter) -> dict[str, str]:
    """Put a method's modules into a plain encoder and return the new name of each of its tensors.

    An inserted module may stand around a layer of the encoder and so change the names of that layer's weights. It must
    keep the tensors themselves: by them, not by rules on names, the plain encoder is found again, so pretrained weights
    load into any method's network, and none can be forgotten.

    Args:
        encoder: a plain encoder; changed in place.
        method: the adaptation method.

    Returns:
        Name in the plain encoder's state dict to name in the changed one's.

    Raises:
        ValueError: if the method does not apply to this encoder, or replaces a tensor of it.
    """
    plain = _tensors(encoder)
    method.insert(encoder)
    places = {id(tensor): name for name, tensor in _tensors(encoder).items()}
    lost = [name for name, tensor in plain.items() if id(tensor) not in places]
    if lost:
        raise ValueError(f"method {method.name} replaces weights of the encoder, {lost[:3]}; it may only stand around")
    return {name: places[id(tensor)] for name, tensor in plain.items()}


def inserted_parameters(network: AdaptableNetwork) -> list[nn.Parameter]:
    """Return the weights in a network's encoder that are not the plain encoder's own."""
    own = set(network.encoder_names.values())
    return [p for name, p in network.encoder.named_parameters() if name not in own]


def blocks_of(encoder: Encoder, method: Adapter) -> list[nn.Module]:
    """Return an encoder's transformer blocks, for a method that works on them.

    Raises:
        ValueError: naming both, if the encoder has none.
    """
    blocks = encoder.transformer_blocks()
    if not blocks:
        plain = encoder.encoder if isinstance(encoder, RescaledEncoder) else encoder
        raise ValueError(
            f"method {method.name} works on transformer blocks, and {type(plain).__name__} has none: choose another "
            "method or encoder"
        )
    return blocks


def _tensors(encoder: Encoder) -> dict[str, nn.Parameter]:
    return dict(encoder.state_dict(keep_vars=True))
