"""`medfm3d info`: what is installed, what the machine offers, and what a bundle says of itself."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.pretty import Pretty

from medfm3d.adaptation import METHODS
from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.encoders import ENCODERS
from medfm3d.inference import read_card
from medfm3d.inference.workflow import shipped_bundles
from medfm3d.segmentation import resolve_precision

PACKAGES = ("medfm3d", "monai", "torch", "numpy", "nibabel", "SimpleITK", "lightning", "monailabel", "nnunetv2")


def info(
    bundle: Annotated[Path | None, typer.Option(help="Folder of an adapted bundle to describe too.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Show versions, devices, encoders and methods, and what a bundle was made from."""
    result = describe(start(device, seed))
    if bundle is not None:
        result["bundle"] = read_card(bundle)
    Console().print(Pretty(result, expand_all=True))
    write_result(result, json_file)


def describe(device: torch.device) -> dict[str, Any]:
    """Return versions, devices and what can be named in options, and where bundles lie."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": str(device),
        "precision": str(resolve_precision("auto", device)).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "encoders": list(ENCODERS),
        "methods": list(METHODS),
        "bundles": {name: str(folder) for name, folder in shipped_bundles().items()},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
