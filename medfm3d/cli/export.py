"""`medfm3d export`: a bundle's network for other runtimes."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.inference import ExportFormat, export_network


def export(
    bundle: Annotated[Path, typer.Option(help="Folder of an adapted bundle.")],
    output: Annotated[Path, typer.Option(help="File to write, such as network.onnx.")],
    format: Annotated[ExportFormat, typer.Option(help="Format of the file.")] = ExportFormat.ONNX,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise linear layers to 8 bits; ONNX only, and for the CPU.")
    ] = False,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Write a bundle's network as ONNX, TorchScript or torch.export, and compare it with the bundle's own.

    The file takes prepared windows and gives logits. `medfm3d segment --onnx FILE` runs an ONNX file in place of the
    bundle's own network.
    """
    start(device, seed)
    result = export_network(bundle, output, format, int8=int8, seed=seed)
    console = Console()
    console.print(f"{escape(str(output))}: {result['size_bytes'] / 1e6:.1f} MB", highlight=False, soft_wrap=True)
    console.print(
        f"logits differ by {result['largest_difference']:.1e} at most, labels of {result['changed_voxels']:.2%} of the "
        "voxels of made-up windows",
        highlight=False,
    )
    write_result(result, json_file)
