"""Serving bundles to 3D Slicer through MONAI Label, and learning from what is drawn there.

Only the modules that MONAI Label itself loads import it: `monai_label_app`, the tasks, `datastore` and `asgi`.
"""

from medfm3d.serving.annotations import Annotation, read_annotation
from medfm3d.serving.bundle_versions import earlier_versions, recover_bundle, replace_bundle
from medfm3d.serving.served_bundle import ServedBundle, check_bundle, find_bundle, fresh_bundle
from medfm3d.serving.server import (
    ServerError,
    Studies,
    check_address,
    check_installed,
    find_studies,
    run_server,
)
from medfm3d.serving.training import DrawnScan, TrainingProgress, train_bundle

__all__ = [
    "Annotation",
    "DrawnScan",
    "ServedBundle",
    "ServerError",
    "Studies",
    "TrainingProgress",
    "check_address",
    "check_bundle",
    "check_installed",
    "earlier_versions",
    "find_bundle",
    "find_studies",
    "fresh_bundle",
    "read_annotation",
    "recover_bundle",
    "replace_bundle",
    "run_server",
    "train_bundle",
]
