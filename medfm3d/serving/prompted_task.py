"""A promptable bundle in MONAI Label: one of the models that Slicer's Smart Edit offers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.bundle import BundleInferTask

from medfm3d.segmentation.prompts import PromptError
from medfm3d.serving.refusals import refusing
from medfm3d.volumes import VolumeError


class PromptedInferTask(BundleInferTask):
    """MONAI Label's own task for bundles, of the type that gets clicks, whatever the bundle's folder is called.

    MONAI Label tells the type from the folder's name otherwise, and Slicer offers "deepgrow" and "deepedit" alone.

    Args:
        path: the bundle's folder.
        conf: the server's configuration.
    """

    def __init__(self, path: Path, conf: Mapping[str, str]) -> None:
        super().__init__(str(path), dict(conf), type=InferType.DEEPGROW, load_strict=True)
        self._config.pop("model_filename", None)  # there is one model

    def __call__(self, request: Mapping[str, Any], callbacks: Any = None) -> tuple[str | None, dict[str, Any]]:
        """Answer a request's prompts; returns the mask's file and what is known of it.

        Raises:
            HTTPException: if there is no such image (404), or image or prompts cannot be used (422); its detail says
                what to do.
        """
        with refusing(request, (VolumeError, PromptError)):
            return super().__call__(request, callbacks)


def is_prompted(path: Path) -> bool:
    """Whether a bundle answers prompts: whether its network is a `PromptableSegmenter`."""
    config = path / "configs" / "inference.json"
    if not config.is_file():
        return False
    network = json.loads(config.read_text(encoding="utf-8")).get("network_def")
    return isinstance(network, dict) and str(network.get("_target_")).endswith(".PromptableSegmenter")
