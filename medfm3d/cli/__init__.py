"""The command line: each sub-command is one bundle workflow or one function of the API."""

from medfm3d.cli.app import app, main

__all__ = ["app", "main"]
