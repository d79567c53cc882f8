"""`medfm3d view`: scans and masks in the browser."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medfm3d.cli.options import parse_organs
from medfm3d.evaluation.viewer import ViewerCase, ViewerServer, pair_scans, single_case
from medfm3d.evaluation.viewer.server import DEFAULT_PORT
from medfm3d.inference import read_plan


def view(
    scan: Annotated[Path | None, typer.Argument(help="A scan, instead of --images.")] = None,
    mask: Annotated[Path | None, typer.Argument(help="Its mask, instead of --masks.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of scans.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of masks, named as the scans.")] = None,
    organs: Annotated[
        str | None,
        typer.Option(help="Organs and their ids in the masks, such as liver=1,spleen=2.", metavar="NAME=ID,..."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle that made the masks, instead of --organs.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = DEFAULT_PORT,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Show scans and masks in three planes and in 3D, in the browser, from this machine alone; ends with Ctrl-C."""
    if organs is not None and bundle is not None:
        raise ValueError("--organs and --bundle both name organs; give one of them")
    named = parse_organs(organs) if organs is not None else dict(read_plan(bundle).organs) if bundle is not None else {}
    cases = find_cases(scan, mask, images, masks)
    title = cases[0].name if scan is not None else f"{images}" if masks is None else f"{masks}"
    server = ViewerServer(cases, named, title, port)
    console = Console()
    console.print(
        f"{len(cases)} case{'' if len(cases) == 1 else 's'} at {server.url}\nCtrl-C ends it",
        highlight=False,
        soft_wrap=True,
    )
    console.file.flush()  # a program that started this one reads the address
    if browser and not webbrowser.open(server.url):
        console.print("no browser was found: open that address in one on this machine")
    try:
        server.serve()
    except KeyboardInterrupt:
        console.print("ended")
    finally:
        server.free_port()


def find_cases(scan: Path | None, mask: Path | None, images: Path | None, masks: Path | None) -> list[ViewerCase]:
    """Return the cases that the arguments name: a scan and its mask, or folders of them.

    Raises:
        ValueError: if they name both, or neither.
        VolumeError: as `pair_scans`, and for files that do not exist.
    """
    if (scan is None) == (images is None) or (masks is not None and images is None):
        raise ValueError("name either a scan and its mask, or folders by --images and --masks")
    return [single_case(scan, mask)] if scan is not None else pair_scans(images, masks)
