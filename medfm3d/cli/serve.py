"""`medfm3d serve`: bundles in 3D Slicer, through a MONAI Label server."""

from pathlib import Path
from typing import Annotated

import typer

from medfm3d.cli.options import parse_names, parse_organs
from medfm3d.inference import BundleError
from medfm3d.serving import (
    ServedBundle,
    check_address,
    check_installed,
    find_bundle,
    find_studies,
    fresh_bundle,
    run_server,
)

LONGEST_NAME = 40


def serve(
    studies: Annotated[Path, typer.Option(help="Folder of scans; labels are saved in its subfolder labels.")],
    bundles: Annotated[
        str | None,
        typer.Option(help="Folders of bundles, or names of those that medfm3d ships.", metavar="NAME_OR_DIR,..."),
    ] = None,
    organs: Annotated[
        str | None,
        typer.Option(
            help="Start without a bundle: outline these organs in Slicer, press Train. With or without ids: "
            "liver,spleen or liver=1,spleen=2.",
            metavar="NAME,...",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle that is made of --organs; by default the organs' names.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for that bundle, the log and what is cached; by default STUDIES_medfm3d beside it."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at, of this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
) -> None:
    """Offer bundles and scans to 3D Slicer, and learn from what is outlined there; stop with Ctrl-C.

    Training in Slicer replaces the model in the bundle's own folder; earlier ones are kept in its subfolder history.
    """
    check_installed()
    found = find_studies(studies)
    check_address(host, port)
    place = work or found.folder.with_name(f"{found.folder.name}_medfm3d")
    offered: list[ServedBundle] = [find_bundle(one) for one in parse_names(bundles)]
    if organs is not None:
        wanted = parse_organs(organs) if "=" in organs else _numbered(organs)
        offered.append(fresh_bundle(place.resolve() / "bundles" / (name or _joined(wanted)), wanted))
    if not offered:
        raise BundleError("nothing to serve: name --bundles, or --organs that are to be outlined in Slicer")
    run_server(found, offered, place.resolve(), host, port)


def _numbered(organs: str) -> dict[str, int]:
    names = parse_names(organs)
    if len({one.casefold() for one in names}) < len(names):
        raise ValueError(f"--organs {organs!r}: a name comes twice")
    return {one: number for number, one in enumerate(names, start=1)}


def _joined(organs: dict[str, int]) -> str:
    kept = "_".join("".join(c if c.isalnum() or c in "-." else "_" for c in organ) for organ in organs)
    return kept[:LONGEST_NAME].strip("._") or "organs"
