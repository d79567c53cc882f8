"""Going on with a run that was cut off."""

from pathlib import Path

import torch
from torch import nn

from medfm3d.encoders import WeightsError

CHECKPOINT_FOLDER = "checkpoints"
LAST_CHECKPOINT = "last.ckpt"


def find_checkpoint(output_dir: str | Path, resume: str) -> str | None:
    """Return the checkpoint to go on from, `checkpoints/last.ckpt` of the output folder, or None for a fresh start.

    Args:
        output_dir: the run's folder.
        resume: "auto" goes on where there is a checkpoint, "never" starts afresh.

    Raises:
        ValueError: if `resume` is neither.
    """
    if resume not in ("auto", "never"):
        raise ValueError(f"resume must be auto or never, got {resume!r}")
    checkpoint = Path(output_dir) / CHECKPOINT_FOLDER / LAST_CHECKPOINT
    return str(checkpoint) if resume == "auto" and checkpoint.is_file() else None


def load_network(network: nn.Module, checkpoint: str | Path) -> nn.Module:
    """Load the network's weights out of a checkpoint of `MAEModule`; return it in evaluation mode.

    Raises:
        WeightsError: if the checkpoint does not exist, or its network is of another make.
    """
    checkpoint = Path(checkpoint)
    if not checkpoint.is_file():
        raise WeightsError(f"{checkpoint}: no such checkpoint; pretrain first, or name another")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."
    try:
        network.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})
    except RuntimeError as error:
        raise WeightsError(
            f"{checkpoint}: holds another network; give the encoder and sizes it was trained with ({error})"
        ) from error
    return network.eval()
