"""The application that uvicorn runs: MONAI Label's own behind the guard, with what is said at its start."""

import logging
import os
import sys

from monailabel.app import app as monai_label
from monailabel.utils.async_tasks.utils import background_executors, processes, stop_background_task

from medfm3d.serving.guard import LoopbackGuard

GREETING_VARIABLE = "MEDFM3D_SERVE_GREETING"
logger = logging.getLogger(__name__)


def greet() -> None:
    """Print how to use the server, now that it answers."""
    sys.stdout.write(os.environ.get(GREETING_VARIABLE, "") + "\n")
    sys.stdout.flush()


def stop_children() -> None:
    """End trainings and batches; without that, the server would wait for them to finish."""
    for method, executor in background_executors.items():
        executor.shutdown(wait=False, cancel_futures=True)
        while processes(method):
            logger.warning(f"stopping: {method}")
            stop_background_task(method)


app = LoopbackGuard(monai_label, greet, stop_children)
