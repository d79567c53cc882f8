"""The command line: each sub-command is one bundle workflow or one function of the API."""

import os
import warnings

from medfm3d.openmp import waiting_settings

os.environ.update(waiting_settings(os.environ))  # before torch is loaded

# What dependencies say to developers, some of it while they are imported, is not for users.
warnings.filterwarnings("ignore", category=DeprecationWarning)
warnings.filterwarnings("ignore", category=FutureWarning)

from medfm3d.cli.app import app, main  # noqa: E402 (after what must come before it)

__all__ = ["app", "main"]
