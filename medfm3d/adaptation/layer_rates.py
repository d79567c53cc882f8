"""Layer-wise learning-rate decay."""

from typing import Any

from medfm3d.encoders import Encoder


def layer_groups(
    encoder: Encoder, learning_rate: float, decay_per_layer: float, *, deepest: int | None = None
) -> list[dict[str, Any]]:
    """Return an optimiser group per layer of an encoder, each layer slower than the one behind it.

    Shallow layers hold what all images share, deep ones what a task wants (Clark et al. 2020, ELECTRA; Bao et al. 2022,
    BEiT): the deepest layer gets the full rate, one that is n layers before it `decay_per_layer` ** n of it.

    Args:
        encoder: whose `layers` count.
        learning_rate: of the deepest layer.
        decay_per_layer: above 0 and at most 1; 1 gives all layers one rate.
        deepest: how many layers, counted from the deepest, are wanted; all if None.

    Raises:
        ValueError: if the decay is out of range, or not 1 and the encoder knows no depths.
    """
    if not 0 < decay_per_layer <= 1:
        raise ValueError(f"decay_per_layer must lie above 0 and not above 1, got {decay_per_layer}")
    layers = encoder.layers()
    if len(layers) == 1 and decay_per_layer != 1:
        raise ValueError(f"{type(encoder).__name__} knows no depths of its layers: set decay_per_layer to 1")
    slowness = range(len(layers) - 1, -1, -1)
    groups = [
        {"params": layer, "lr": learning_rate * decay_per_layer**steps}
        for layer, steps in zip(layers, slowness, strict=True)
    ]
    return [group for group in (groups if deepest is None else groups[-deepest:]) if group["params"]]
