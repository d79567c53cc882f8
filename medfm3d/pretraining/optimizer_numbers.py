"""The optimiser's state in a checkpoint, numbered so that any strategy reads it."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import ModelParallelStrategy


def number_by_module(module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Number the weights in a checkpoint's optimiser states as `module.parameters()` does; for `on_save_checkpoint`.

    An optimiser numbers weights by its groups, such as those that decay and those that do not. Lightning takes the
    numbers for those of the module when it reads such a state into shared-out weights, and would mix them up. Without
    sharing out, the order within the groups counts alone, which stays.
    """
    if isinstance(module.trainer.strategy, ModelParallelStrategy):
        return  # numbered so already
    numbers = {id(weight): number for number, weight in enumerate(module.parameters())}
    for optimizer, content in zip(module.trainer.optimizers, checkpoint["optimizer_states"], strict=True):
        ours = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
        theirs = [number for group in content["param_groups"] for number in group["params"]]
        renumbered = {their: numbers[our] for our, their in zip(ours, theirs, strict=True)}
        content["state"] = {renumbered[number]: state for number, state in content["state"].items()}
        for group in content["param_groups"]:
            group["params"] = [renumbered[number] for number in group["params"]]
