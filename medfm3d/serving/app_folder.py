"""The folder from which MONAI Label starts: its app, its log and what must outlive it, beside the scans."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from medfm3d.serving.served_bundle import ServedBundle
from medfm3d.volumes import write_json

SERVED_FILE = "bundles.json"
LOG_FILE = "logs/app.log"
LOGGING_FILE = "logging.json"
# MONAI Label reads the app's class from this file; the class itself is in the package.
_MAIN = '''"""Written by medfm3d serve."""

from medfm3d.serving.monai_label_app import ServedApp

__all__ = ["ServedApp"]
'''


def write_app_folder(folder: Path, bundles: Sequence[ServedBundle], logging_template: Path) -> None:
    """Write or renew the app that serves these bundles.

    Everything is logged to a file; the screen shows warnings alone.

    Args:
        folder: the app's folder.
        bundles: what it serves; their names are distinct.
        logging_template: MONAI Label's own logging.json.

    Raises:
        ValueError: if two bundles have one name.
    """
    names = [bundle.name for bundle in bundles]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several bundles are named {', '.join(repeated)}; rename the folder of one")
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(_MAIN, encoding="utf-8")
    write_json({"bundles": [str(bundle.path) for bundle in bundles]}, folder / SERVED_FILE)
    config = json.loads(logging_template.read_text(encoding="utf-8"))
    for handler in config["handlers"].values():
        if "filename" in handler:
            handler["filename"] = str(folder / LOG_FILE)
        elif "Stream" in handler["class"]:
            handler["level"] = "WARNING"
    write_json(config, folder / LOGGING_FILE)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
