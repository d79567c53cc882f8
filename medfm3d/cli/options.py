"""Options that sub-commands share, and the result that scripts read."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, TextIO

import torch
import typer
from monai.utils import set_determinism

from medfm3d.segmentation import resolve_device
from medfm3d.volumes import write_json

Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda or cuda:N.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random; equal seeds give equal results on the CPU.")]
_for_results: ContextVar[TextIO | None] = ContextVar("_for_results", default=None)


@contextmanager
def _standard_output_for_results() -> Iterator[None]:
    """Send all that is said to standard error, so that standard output is the result and nothing else."""
    before = _for_results.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _for_results.reset(before)


def _keep_for_results(context: typer.Context, file: Path | None) -> Path | None:
    if file is not None and str(file) == "-" and not context.resilient_parsing:
        context.with_resource(_standard_output_for_results())
    return file


JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Also write the result here as JSON; - for standard output, while messages go to standard error.",
        callback=_keep_for_results,
    ),
]
Organs = Annotated[
    str, typer.Option(help="Organs and their ids in the label files, such as liver=1,spleen=2.", metavar="NAME=ID,...")
]


def start(device: str, seed: int) -> torch.device:
    """Seed everything and return the device; raises ValueError for a device that is not there."""
    set_determinism(seed=seed)
    return resolve_device(device)


def parse_organs(text: str) -> dict[str, int]:
    """Return organs and ids from NAME=ID,...

    Raises:
        ValueError: if the text has another form, or a name or id comes twice.
    """
    organs: dict[str, int] = {}
    for part in text.split(","):
        name, separator, number = (piece.strip() for piece in part.partition("="))
        if not separator or not name or not number.isdigit():
            raise ValueError(f"--organs {text!r}: expected NAME=ID,... such as liver=1,spleen=2")
        if name in organs or int(number) in organs.values():
            raise ValueError(f"--organs {text!r}: {name} or {number} comes twice")
        organs[name] = int(number)
    return organs


def parse_arguments(text: str | None) -> dict[str, Any]:
    """Return a method's arguments from NAME=VALUE,...: numbers, true and false as such, all else as text.

    Raises:
        ValueError: if the text has another form, or a name comes twice.
    """
    arguments: dict[str, Any] = {}
    for part in text.split(",") if text else ():
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or not name.isidentifier() or not value or name in arguments:
            raise ValueError(f"--method-arguments {text!r}: expected NAME=VALUE,... such as rank=4,alpha=8, each once")
        try:
            arguments[name] = json.loads(value)
        except json.JSONDecodeError:
            arguments[name] = value
    return arguments


def parse_names(text: str | None) -> list[str]:
    """Return names from a,b,...; none from None."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def write_result(result: dict[str, Any], file: Path | None) -> None:
    """Write a sub-command's result for scripts, where one was asked for."""
    if file is None:
        return
    if str(file) == "-":
        stream = _for_results.get() or sys.stdout
        stream.write(json.dumps(result, indent=2, default=str) + "\n")
        return
    write_json(result, file, default=str)
