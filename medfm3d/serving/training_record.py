"""How far a bundle's training is, in a file that the server reads while another process trains."""

import json
import math
import time
from pathlib import Path
from typing import Any

from medfm3d.serving.training import TrainingProgress
from medfm3d.volumes import write_json


def write_progress(bundle: Path, progress: TrainingProgress, started: int) -> None:
    """Write how far a training is.

    Args:
        bundle: the bundle's folder; the file lies beside it, hidden.
        progress: how far it is.
        started: when it began, in seconds since 1970.
    """
    content = {
        "epoch": progress.step,
        "total_epochs": progress.steps,
        "start_ts": started,
        "train": {"loss": None if math.isnan(progress.loss) else progress.loss},
    }
    seconds = "total_time" if progress.step == progress.steps else "current_time"
    content[seconds] = time.strftime("%H:%M:%S", time.gmtime(progress.elapsed_s))
    write_json(content, _file(bundle))


def read_progress(bundle: Path) -> dict[str, Any]:
    """Return what was written last, in the terms of MONAI Label's train_stats.json; nothing if there is nothing."""
    try:
        return json.loads(_file(bundle).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _file(bundle: Path) -> Path:
    return bundle.with_name(f".{bundle.name}.progress.json")
