"""`medfm3d weights`: public weights of other projects, from their files into medfm3d."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.pretty import Pretty
from rich.table import Table

from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.encoders.nnunet import export_for_nnunet
from medfm3d.encoders.public_weights import (
    catalogue_entry,
    find_encoder,
    import_weights,
    imported_weights,
    read_catalogue,
)

weights = typer.Typer(help="List, import and pass on pretrained encoders of other projects.", no_args_is_help=True)

Folder = Annotated[
    Path | None, typer.Option("--folder", help="Folder of imported weights; by default one in your cache folder.")
]


@weights.command("list")
def list_weights(folder: Folder = None, device: Device = "auto", seed: Seed = 0, json_file: JsonFile = None) -> None:
    """List the public weights that can be imported, and which of them are."""
    start(device, seed)
    there = imported_weights(folder)
    table = Table(title="Public weights")
    table.add_column("name", no_wrap=True)
    for heading in ("what", "scans", "licence", "imported"):
        table.add_column(heading)
    for entry in read_catalogue().values():
        licence = str(entry.licence["name"]) + (" [!]" if entry.licence["warning"] else "")
        cells = entry.title, ", ".join(entry.modality), licence, "yes" if entry.name in there else "-"
        table.add_row(*map(escape, (entry.name, *cells)))
    console = Console()
    console.print(table)
    console.print(escape("[!]: `medfm3d weights info NAME` says what its licence forbids"), highlight=False)
    entries = [asdict(entry) | {"imported": entry.name in there} for entry in read_catalogue().values()]
    write_result({"weights": entries}, json_file)


@weights.command("info")
def describe(
    name: Annotated[str, typer.Argument(help="Name in the catalogue.")],
    folder: Folder = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Show where weights come from, under which licence, and what scans they were trained on."""
    start(device, seed)
    entry = catalogue_entry(name)
    there = imported_weights(folder).get(name)
    result = asdict(entry)
    del result["checkpoint"]
    result["imported"] = None if there is None else str(there)
    console = Console()
    console.print(Pretty(result, expand_all=True))
    _print_warning(console, entry.licence["warning"])
    write_result(result, json_file)


@weights.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="The checkpoint, as downloaded.")],
    name: Annotated[str, typer.Option("--as", help="Name in the catalogue; `adapt --encoder` takes it afterwards.")],
    folder: Annotated[
        Path | None, typer.Option("--output", help="Folder to write to; by default one in your cache folder.")
    ] = None,
    in_channels: Annotated[int, typer.Option(min=1, help="Channels of your scans.")] = 1,
    allow_partial: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the encoder's weights that suffices; by default all.")
    ] = 1.0,
    ct_statistics: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH,MEAN,STD",
            help="How nnU-Net normalised CT for these weights: the 0.5 and 99.5 percentiles, mean and standard "
            "deviation in the plans file beside them.",
        ),
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Bring a downloaded checkpoint into medfm3d's format; nothing in it is run."""
    start(device, seed)
    imported = import_weights(
        file,
        name,
        folder=folder,
        in_channels=in_channels,
        least_share=allow_partial,
        intensity=None if ct_statistics is None else _statistics(ct_statistics),
    )
    console = Console()
    console.print(escape(f"{imported.entry.title}: {imported.fit.summary()}"), highlight=False, soft_wrap=True)
    for tensor, change in imported.fit.adapted.items():
        console.print(escape(f"{tensor}: {change}"), highlight=False)
    _print_warning(console, imported.entry.licence["warning"])
    console.print(escape(f"written: {imported.path}"), highlight=False, soft_wrap=True)
    fit = asdict(imported.fit)
    del fit["loaded"]
    write_result({"name": name, "path": str(imported.path), "arguments": imported.arguments, **fit}, json_file)


@weights.command("export-nnunet")
def export_nnunet(
    name: Annotated[str, typer.Argument(help="Name of imported weights, or the path of a .safetensors file.")],
    plans: Annotated[Path, typer.Option(help="nnU-Net's plans file, beside the dataset.json of the same dataset.")],
    output: Annotated[Path, typer.Option(help="Checkpoint to write, for nnUNetv2_train -pretrained_weights.")],
    configuration: Annotated[str, typer.Option(help="Configuration of the plans.")] = "3d_fullres",
    folder: Folder = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Write an encoder so that nnU-Net v2 fine-tunes it, and say by which command."""
    start(device, seed)
    exported = export_for_nnunet(find_encoder(name, folder), plans, output, configuration=configuration, seed=seed)
    console = Console()
    console.print(
        escape(f"{exported.tensors} tensors of the encoder: {exported.path}"), highlight=False, soft_wrap=True
    )
    for line in exported.commands:
        console.print(escape(line), highlight=False, soft_wrap=True)
    write_result(asdict(exported), json_file)


def _print_warning(console: Console, warning: str | None) -> None:
    if warning:
        console.print(f"[bold yellow]licence:[/] {escape(warning)}", highlight=False, soft_wrap=True)


def _statistics(text: str) -> dict:
    try:
        low, high, mean, deviation = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"--ct-statistics {text!r}: expected LOW,HIGH,MEAN,STD in Hounsfield units") from error
    return {"kind": "hu-statistics", "clip_hu": [low, high], "mean_hu": mean, "deviation_hu": deviation}
