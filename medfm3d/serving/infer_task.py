"""A bundle's inference in MONAI Label, with its newest model."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monai.bundle import ConfigParser
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.utils.others.generic import device_list

from medfm3d.inference import BundleError
from medfm3d.serving.refusals import refusing
from medfm3d.serving.segments import slicer_names
from medfm3d.serving.served_bundle import ServedBundle
from medfm3d.volumes import VolumeError


class _BundleTask(BundleInferTask):
    """MONAI Label's own task; what the bundle writes beside a mask goes into the server's folder."""

    def __init__(self, path: str, conf: dict[str, str], notes: Path) -> None:
        self.notes = notes
        super().__init__(path, conf, load_strict=True)
        self._config.pop("model_filename", None)  # there is one model; the bundle's history has the earlier ones

    def _load_bundle_config(self, path: str, config: str) -> ConfigParser:
        parser = super()._load_bundle_config(path, config)
        parser["output_dir"] = str(self.notes)
        return parser


class AdaptedInferTask(InferTask):
    """Runs an adapted bundle as it lies on the disk at the time of the request.

    MONAI Label's own task reads a bundle's configs once and its weights again when their date changes; training from
    Slicer changes both together, so the whole task is made anew when the bundle has been replaced. A bundle that has no
    model yet is offered all the same, so that Slicer knows its organs; running it says what to do first.

    Args:
        bundle: an adapted or fresh bundle.
        conf: the server's configuration.
        notes: folder for what the bundle writes beside a mask, such as the predicted Dice.
    """

    def __init__(self, bundle: ServedBundle, conf: Mapping[str, str], notes: Path) -> None:
        self.bundle, self.conf, self.notes = bundle, dict(conf), notes
        self._lock = threading.Lock()
        self._task: _BundleTask | None = None
        self._mark: tuple[int, int] | None = None
        organs = ", ".join(bundle.organs)
        super().__init__(InferType.SEGMENTATION, bundle.organs, 3, f"Segments {organs}; adapted by medfm3d")

    def is_valid(self) -> bool:
        """Whether clients are told of it: always."""
        return True

    def info(self) -> dict[str, Any]:
        """Return what clients are told of it."""
        trained = "" if self.bundle.trained else "; not trained yet"
        return {
            "type": self.type,
            "labels": self.bundle.organs,
            "dimension": self.dimension,
            "description": self.description + trained,
            "config": self.config(),
        }

    def config(self) -> dict[str, Any]:
        """Return the options that clients may change."""
        return {"device": device_list()}

    def get_path(self, validate: bool = True) -> str | None:
        """Return the file of the network's weights; None if it must exist and does not."""
        path = self.bundle.path / "models" / "model.pt"
        return str(path) if path.is_file() or not validate else None

    def __call__(self, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Segment the request's image.

        Returns:
            The mask's file and what is known of it.

        Raises:
            HTTPException: if the bundle has no model yet (409), there is no such image (404) or it cannot be used
                (422); its detail says what to do.
        """
        if not self.bundle.trained:
            steps = "outline the organs in a few scans, press Submit Label for each, then Train"
            raise HTTPException(409, f"{self.bundle.name} is not trained yet: {steps}")
        with refusing(request, (VolumeError, BundleError)):
            file, result = self._newest()(request)
        result["label_names"] = slicer_names(self.bundle.organs)
        return file, result

    def _newest(self) -> _BundleTask:
        with self._lock:
            status = Path(self.get_path(validate=False)).stat()
            mark = (status.st_mtime_ns, status.st_ino)
            if self._task is None or mark != self._mark:
                self._task = _BundleTask(str(self.bundle.path), self.conf, self.notes)
                self._mark = mark
            return self._task
