"""The `medfm3d` command and how its sub-commands end."""

import io
import logging
import os
import sys

import typer
from rich.console import Console
from rich.markup import escape

from medfm3d.cli.adapt import adapt
from medfm3d.cli.convert import convert
from medfm3d.cli.data import data
from medfm3d.cli.demo import demo
from medfm3d.cli.evaluate import evaluate, report
from medfm3d.cli.export import export
from medfm3d.cli.info import info
from medfm3d.cli.pretrain import pretrain
from medfm3d.cli.segment import segment
from medfm3d.cli.serve import serve
from medfm3d.cli.view import view
from medfm3d.cli.weights import weights
from medfm3d.cohorts import ManifestError
from medfm3d.encoders import WeightsError
from medfm3d.inference import BatchStopped, BundleError
from medfm3d.volumes import VolumeError
from medfm3d.volumes.errors import causes

app = typer.Typer(
    name="medfm3d",
    help="From a few outlined CT or MR scans to a MONAI bundle that segments the rest.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, pretrain, adapt, segment, serve, evaluate, report, view, convert, export, info):
    app.command()(command)
app.add_typer(data, name="data")
app.add_typer(weights, name="weights")

# What a user can mend: said in one line. Anything else is a fault of ours and keeps its traceback.
OURS = (VolumeError, ManifestError, BundleError, WeightsError, BatchStopped)
EXPECTED = (*OURS, ValueError, OSError)


def main() -> None:
    """Run the command line; errors of the input end with a message and exit code 1."""
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # it warns that it writes no log file
    logging.getLogger("ignite").setLevel(logging.CRITICAL)  # it logs what is raised, and said below, twice over
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        app()
    except (*EXPECTED, RuntimeError) as error:
        explanation = _explanation(error)
        if explanation is None or os.environ.get("MEDFM3D_TRACEBACK"):
            raise
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(explanation))}", highlight=False, soft_wrap=True)
        sys.exit(1)


def _explanation(error: BaseException) -> BaseException | None:
    """Return the one of an error and its causes that tells the user most, or None if none is the user's to mend.

    MONAI wraps what a transform or an expression raised, and our own errors wrap what a library raised: the first of
    ours says file, fault and remedy; where there is none, the innermost is the least wrapped.
    """
    chain = causes(error)
    ours = [e for e in chain if isinstance(e, OURS)]
    others = [e for e in reversed(chain) if isinstance(e, EXPECTED)]
    return next(iter(ours + others), None)
