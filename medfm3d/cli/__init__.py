"""The command line: each sub-command is one bundle workflow or one function of the API."""

import os
import warnings

# Threads that wait for each other spin for some microseconds and then sleep, which must be said before torch is loaded.
# Where anything else runs on the machine, spinning for long makes a training step on 2 cores about five times slower
# (1.4 s against 0.27 s); on an idle one, sleeping at once makes it slower by a third.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# What dependencies say to developers, some of it while they are imported, is not for users.
warnings.filterwarnings("ignore", category=DeprecationWarning)
warnings.filterwarnings("ignore", category=FutureWarning)

from medfm3d.cli.app import app, main  # noqa: E402 (after what must come before it)

__all__ = ["app", "main"]
