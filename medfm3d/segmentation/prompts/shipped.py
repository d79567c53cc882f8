"""A promptable network as a bundle holds it."""

import json
from pathlib import Path

import torch

from medfm3d.encoders import WeightsError
from medfm3d.segmentation.prompts.promptable_segmenter import PromptableSegmenter


def load_promptable(bundle: str | Path) -> PromptableSegmenter:
    """Return the network of a bundle, such as `bundles/promptable_segmentation`, in evaluation mode.

    Args:
        bundle: the bundle's folder; its configs/inference.json says what the network is, its models/model.pt holds the
            weights.

    Raises:
        WeightsError: if one of the two is missing, or they do not belong together.
    """
    bundle = Path(bundle)
    config, weights = bundle / "configs" / "inference.json", bundle / "models" / "model.pt"
    for file in (config, weights):
        if not file.is_file():
            raise WeightsError(f"{file}: no such file; name the folder of a promptable bundle")
    definition = json.loads(config.read_text(encoding="utf-8"))["network_def"]
    network = PromptableSegmenter(**{name: value for name, value in definition.items() if not name.startswith("_")})
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise WeightsError(
            f"{weights}: does not fit the network in {config} ({error}); copy the bundle again"
        ) from error
    return network.eval()
