"""The command line: each sub-command is one bundle workflow or one function of the API."""

import os

# Threads that wait for each other sleep instead of spinning, which must be said before torch is loaded. Where anything
# else runs on the machine, spinning makes a training step on 2 cores about five times slower (1.4 s against 0.27 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from medfm3d.cli.app import app, main

__all__ = ["app", "main"]
