"""`medfm3d data`: which cohorts there are, fetching one, checking a folder of scans, and storing it in shards."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.cli.shard import shard
from medfm3d.cohorts import CohortReport, check_cohort, fetch, list_manifests

data = typer.Typer(help="List, fetch, check and store cohorts.", no_args_is_help=True)
data.command("shard")(shard)


@data.command("list")
def list_cohorts(device: Device = "auto", seed: Seed = 0, json_file: JsonFile = None) -> None:
    """List the cohorts that medfm3d knows, with their licences and how to get them."""
    start(device, seed)
    manifests = list_manifests()
    table = Table(title="Cohorts")
    table.add_column("name", no_wrap=True)
    for heading in ("modality", "labelled", "organs", "access", "licence"):
        table.add_column(heading)
    for manifest in manifests:
        labelled = "-" if manifest.num_training is None else str(manifest.num_training)
        access = "fetch" if manifest.downloads else manifest.access
        cells = ", ".join(manifest.modality), labelled, str(len(manifest.organs)), access, manifest.licence
        table.add_row(*map(escape, (manifest.name, *cells)))
    console = Console()
    console.print(table)
    console.print("fetch: `medfm3d data fetch NAME` downloads it; of the others it says how to get them")
    write_result({"cohorts": [asdict(manifest) for manifest in manifests]}, json_file)


@data.command("fetch")
def fetch_cohort(
    name: Annotated[str, typer.Argument(help="Name of a cohort, or path to a manifest.")],
    output: Annotated[Path, typer.Option(help="Folder under which cohorts lie.")] = Path("data"),
    keep_archives: Annotated[bool, typer.Option(help="Keep the archives beside what they held.")] = False,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Download a cohort, verify and unpack it; goes on where it was interrupted."""
    start(device, seed)
    report = fetch(name, output, keep_archives=keep_archives, progress=True)
    table = Table("file", "MB", "checksum", "holds")
    for file in report.files:
        checksum = "verified" if file.verified else "unknown"
        table.add_row(*map(escape, (file.filename, f"{file.size_bytes / 1e6:.1f}", checksum, ", ".join(file.contents))))
    console = Console()
    console.print(table)
    for remark in report.remarks:
        console.print(f"[yellow]remark[/] {escape(remark)}", highlight=False)
    done = "already there" if report.already_there else "fetched"
    console.print(f"{done}: {escape(str(report.cohort_folder or report.folder))}", highlight=False, soft_wrap=True)
    write_result(report.as_dict(), json_file)


@data.command("check")
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A cohort's folder, or a folder of scans.")],
    manifest: Annotated[str | None, typer.Option(help="Name of, or path to, the manifest to compare with.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Read every scan and label map and list what is wrong; exit code 1 if there are faults."""
    start(device, seed)
    report = check_cohort(folder, manifest, progress=True)
    print_findings(report)
    write_result(report.as_dict(), json_file)
    if not report.ok:
        raise typer.Exit(1)


def print_findings(report: CohortReport) -> None:
    """Print the faults and remarks on a cohort, one a line so that paths can be copied, and their numbers."""
    console = Console()
    for kind, findings in (("[red]fault[/]", report.faults), ("[yellow]remark[/]", report.remarks)):
        for finding in findings:
            case = "" if finding.case is None else f"{finding.case}: "
            console.print(f"{kind} {escape(case + finding.message)}", highlight=False, soft_wrap=True)
    table = Table("cases", "labelled", "faults", "remarks")
    counts = (report.num_cases, report.num_labelled, len(report.faults), len(report.remarks))
    table.add_row(*map(str, counts))
    console.print(table)
