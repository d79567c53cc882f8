"""The configs of the bundles that pretrain: what their metadata promise."""

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

# From nothing; going on from other weights, self-distillation takes less.
LEARNING_RATES = {"mae_vit_pretraining": 0.001, "mae_swin_pretraining": 0.001, "dino_pretraining": 0.0005}


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_network_keeps_the_shape_that_the_metadata_promise(repository: Path, name: str) -> None:
    configs = repository / "bundles" / name / "configs"
    parser = ConfigParser()
    parser.read_config(str(configs / "train.json"))
    metadata = json.loads((configs / "metadata.json").read_text())["network_data_format"]
    image, pred = metadata["inputs"]["image"], metadata["outputs"]["pred"]
    network = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        returned = network(torch.rand(1, image["num_channels"], *image["spatial_shape"]))
    assert returned.shape == (1, pred["num_channels"], *pred["spatial_shape"])
    assert set(image["channel_def"]) == {str(channel) for channel in range(image["num_channels"])}
    assert parser.get_parsed_content("learning_rate") == LEARNING_RATES[name]
