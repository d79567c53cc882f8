"""`medfm3d data`: which cohorts there are, fetching them, and checking a folder of scans."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.cohorts import check_cohort, fetch, list_manifests

data = typer.Typer(help="Cohorts: list the known ones, fetch one, check a folder.", no_args_is_help=True)


@data.command("list")
def list_known(device: Device = "auto", seed: Seed = 0, json_file: JsonFile = None) -> None:
    """List the cohorts that have a manifest: what they show, how many cases, and how to get them."""
    start(device, seed)
    table = Table("name", "modality", "cases", "organs", "licence", "access")
    manifests = list_manifests()
    for manifest in manifests:
        cases = "?" if manifest.num_training is None else str(manifest.num_training)
        organs = str(len(manifest.organs)) if len(manifest.organs) > 3 else ", ".join(manifest.organs)
        table.add_row(
            manifest.name, "/".join(manifest.modality), cases, organs or "none", manifest.licence, manifest.access
        )
    Console().print(table)
    write_result({"cohorts": [asdict(manifest) for manifest in manifests]}, json_file)


@data.command("fetch")
def fetch_cohort(
    name: Annotated[str, typer.Argument(help="Name of a cohort, or path of a manifest.")],
    output: Annotated[Path, typer.Option(help="Folder under which cohorts lie.")] = Path("data"),
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Download and unpack a cohort; an interrupted download goes on where it stopped."""
    start(device, seed)
    report = fetch(name, output, progress=True)
    console = Console()
    for remark in report.remarks:
        console.print(f"[yellow]remark[/] {remark}", highlight=False)
    console.print(f"{report.manifest}: {'was there already' if report.already_there else 'fetched'}, {report.folder}")
    write_result(report.as_dict(), json_file)


@data.command("check")
def check_folder(
    folder: Annotated[Path, typer.Argument(help="A cohort's folder, or a folder of scans.")],
    manifest: Annotated[str | None, typer.Option(help="Manifest to compare with.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Read every scan and label map of a folder and list all that is wrong; exit code 1 if anything is."""
    start(device, seed)
    report = check_cohort(folder, manifest, progress=True)
    console = Console()
    for finding in report.faults:
        console.print(f"[red]fault[/] {finding.message}", highlight=False, soft_wrap=True)
    for finding in report.remarks:
        console.print(f"[yellow]remark[/] {finding.message}", highlight=False, soft_wrap=True)
    console.print(f"{report.num_cases} cases, {report.num_labelled} labelled, {len(report.faults)} faults: {folder}")
    write_result(report.as_dict(), json_file)
    if not report.ok:
        raise typer.Exit(1)
