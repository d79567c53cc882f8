"""`medfm3d data shard`: scans prepared once, and put into few files of which windows are read fast."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.pretraining import PretrainingCohort, shard_cohort


def shard(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of scans, or one with a dataset.json.")],
    output: Annotated[Path, typer.Option(help="Folder of the store: new, or one to go on with.")],
    spacing_mm: Annotated[
        float | None, typer.Option(help="Resample to this voxel size; each scan keeps its own if left out.")
    ] = None,
    modality: Annotated[str, typer.Option(help="CT, MR or auto, for the normalisation of intensities.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare scans.")] = 0,
    volumes_per_shard: Annotated[int, typer.Option(min=1, help="Volumes in each file.")] = 64,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out scans that cannot be read, and list them.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="In the end, compare all shards with their checksums.")
    ] = False,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Prepare scans for pretraining and store them in shards; goes on where it was cut off, and adds new scans."""
    start(device, seed)
    cohort = PretrainingCohort(folder, spacing_mm=spacing_mm, modality=modality)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("shards", total=None)
        store = shard_cohort(
            cohort,
            output,
            volumes_per_shard=volumes_per_shard,
            workers=workers,
            skip_bad=skip_bad,
            on_shard=lambda done, of: progress.update(bar, completed=done, total=of),
        )
    if verify:
        store.verify()
    console = Console()
    for entry in store.skipped:
        console.print(f"[yellow]left out[/] {escape(entry['error'])}", highlight=False, soft_wrap=True)
    size = sum(listed["bytes"] for listed in store.shards)
    console.print(
        f"{len(store.volumes)} volumes in {len(store.shards)} shards, {size / 1e6:.1f} MB, {len(store.skipped)} left "
        f"out: {escape(str(output))}",
        highlight=False,
        soft_wrap=True,
    )
    result = {"store": str(output), "volumes": len(store.volumes), "shards": len(store.shards), "bytes": size}
    write_result({**result, "skipped": store.skipped}, json_file)
