"""An inferer in whose hands processes die, for tests of workers that are lost."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer

from medfm3d.volumes.whole_file import whole_file


class MortalInferer(Inferer):
    """Kill the own process in the middle of some scans, as often as is said of each; run the inferer on the others.

    It dies while it writes a file, as it may when another thread is at work on the mask before.

    Args:
        inferer: the inferer.
        deaths: how many processes each scan costs, by its file's name.
        tally: folder in which a file is kept for each death.
        masks: folder that is written to.
    """

    def __init__(self, inferer: Inferer, deaths: dict[str, int], tally: str, masks: str) -> None:
        super().__init__()
        self.inferer, self.deaths, self.tally, self.masks = inferer, deaths, Path(tally), Path(masks)

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        name = Path(inputs.meta["filename_or_obj"][0]).name
        died = len(list(self.tally.glob(f"{name}.*")))
        if died < self.deaths.get(name, 0):
            (self.tally / f"{name}.{os.getpid()}").touch()
            with whole_file(self.masks / "half.nii.gz"):
                os.kill(os.getpid(), signal.SIGKILL)
        return self.inferer(inputs, network, *args, **kwargs)
