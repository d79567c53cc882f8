"""A bundle's training in MONAI Label: what Slicer's Train button starts, in a process of its own."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list, name_to_device

from medfm3d.serving.served_bundle import ServedBundle
from medfm3d.serving.training import STEPS, DrawnScan, TrainingProgress, train_bundle
from medfm3d.serving.training_record import read_progress, write_progress


class AdaptationTrainTask(TrainTask):
    """Adapts a bundle to all labels that were saved as final; see `train_bundle`.

    MONAI Label runs it in a process of its own, keeps the lines that it prints, and asks `stats` for how far it is.

    Args:
        bundle: an adapted or fresh bundle.
        cache_dir: folder of prepared scans.
    """

    def __init__(self, bundle: ServedBundle, cache_dir: Path) -> None:
        super().__init__(f"Few-shot adaptation of {bundle.name} to all saved labels")
        self.bundle, self.cache_dir = bundle, cache_dir

    def config(self) -> dict[str, Any]:
        """Return the options that clients may change."""
        return {"device": device_list(), "steps": STEPS, "seed": 0}

    def stats(self) -> dict[str, Any]:
        """Return how far the training is, or how the last one ended, in the terms that Slicer reads."""
        return read_progress(self.bundle.path)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train on the labels in the datastore; errors as of `train_bundle`, and ValueError for bad options."""
        steps, seed = (_whole(request, name, default) for name, default in (("steps", STEPS), ("seed", 0)))
        started = int(time.time())

        def on_progress(progress: TrainingProgress) -> None:
            left = progress.elapsed_s / progress.step * (progress.steps - progress.step)
            print(
                f"step {progress.step} of {progress.steps}, loss {progress.loss:.3f}, about {left:.0f} s left",
                flush=True,
            )
            write_progress(self.bundle.path, progress, started)

        write_progress(self.bundle.path, TrainingProgress(0, steps, float("nan"), 0.0), started)
        card = train_bundle(
            self.bundle,
            drawn_scans(datastore),
            steps=steps,
            device=name_to_device(request.get("device", "")),
            seed=seed,
            cache_dir=self.cache_dir,
            say=lambda text: print(text, flush=True),
            on_progress=on_progress,
        )
        return {name: card[name] for name in ("name", "support", "iterations", "remarks", "kept", "training_s")}


def drawn_scans(datastore: Datastore) -> list[DrawnScan]:
    """Return the scans of a datastore that have a final label."""
    tag = DefaultLabelTag.FINAL
    return [
        DrawnScan(
            name,
            Path(datastore.get_image_uri(name)),
            Path(datastore.get_label_uri(name, tag)),
            datastore.get_label_info(name, tag).get("label_info"),
        )
        for name in datastore.get_labeled_images()
    ]


def _whole(request: Mapping[str, Any], name: str, default: int) -> int:
    value = request.get(name, default)
    value = value[0] if isinstance(value, list) else value
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {value!r}; give a whole number") from error
    if number < (1 if name == "steps" else 0):
        raise ValueError(f"{name} is {number}; give a larger number")
    return number
