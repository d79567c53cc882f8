"""A trained promptable network as the weights of its bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from medfm3d.segmentation.prompts.promptable_segmenter import PromptableSegmenter
from medfm3d.volumes import write_json
from medfm3d.volumes.whole_file import whole_file


def save_promptable(network: PromptableSegmenter, path: str | Path, provenance: Mapping[str, Any]) -> Path:
    """Write a network's weights in half precision, and beside them, as .json, how they came to be.

    Bundles load `models/model.pt` with `weights_only=True`; weights become float32 again when they are loaded.

    Args:
        network: the network.
        path: file to write; an existing one is replaced at once.
        provenance: any JSON values; the names that the network knows are added.
    """
    path = Path(path)
    state = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    with whole_file(path) as whole:
        torch.save(state, whole)
    write_json({**provenance, "organs": list(network.organ_names)}, path.with_suffix(".json"))
    return path


class ExportPromptable(pl.Callback):
    """At the end of training, write the network with what is known of its training.

    Args:
        path: file to write, see `save_promptable`.
        provenance: what shall be known beside steps, seed and losses; any JSON values.
    """

    def __init__(self, path: str | Path, provenance: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.provenance = dict(provenance or {})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file, in the first process alone."""
        if not trainer.is_global_zero:
            return
        names = [f"{stage}_{part}" for stage in ("train", "val") for part in ("loss", "dice")]
        measured = {n: trainer.callback_metrics[n].item() for n in names if n in trainer.callback_metrics}
        known = {"steps": trainer.global_step, "seed": pl_module.seed, **measured}
        save_promptable(pl_module.network, self.path, {**known, **self.provenance})
