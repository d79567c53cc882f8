"""The `medfm3d` command and how its sub-commands end."""

import logging
import os
import sys

import typer
from rich.console import Console

from medfm3d.cli.adapt import adapt
from medfm3d.cli.data import data
from medfm3d.cli.demo import demo
from medfm3d.cli.evaluate import evaluate, report
from medfm3d.cli.info import info
from medfm3d.cli.pretrain import pretrain
from medfm3d.cli.segment import segment
from medfm3d.cohorts import ManifestError
from medfm3d.encoders import WeightsError
from medfm3d.inference import BundleError
from medfm3d.volumes import VolumeError

app = typer.Typer(
    name="medfm3d",
    help="From a few outlined CT or MR scans to a MONAI bundle that segments the rest.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, pretrain, adapt, segment, evaluate, report, info):
    app.command()(command)
app.add_typer(data, name="data")

# What a user can mend: said in one line. Anything else is a fault of ours and keeps its traceback.
EXPECTED = (VolumeError, ManifestError, BundleError, WeightsError, ValueError, OSError)


def main() -> None:
    """Run the command line; errors of the input end with a message and exit code 1."""
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # it warns that it writes no log file
    try:
        app()
    except EXPECTED as error:
        if os.environ.get("MEDFM3D_TRACEBACK"):
            raise
        # MONAI wraps what a transform or an expression raised; the cause is what the user can act on.
        Console(stderr=True).print(f"[bold red]error:[/] {_root(error)}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except RuntimeError as error:
        cause = _root(error)
        if os.environ.get("MEDFM3D_TRACEBACK") or not isinstance(cause, EXPECTED):
            raise
        Console(stderr=True).print(f"[bold red]error:[/] {cause}", highlight=False, soft_wrap=True)
        sys.exit(1)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
