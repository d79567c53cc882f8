"""`medfm3d pretrain`: an encoder learns from scans without labels."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.inference import bundle_template, run_workflow

TEMPLATE = "mae_vit_pretraining"


def pretrain(
    data: Annotated[Path, typer.Option(help="A folder of scans, or one with a dataset.json; labels are not used.")],
    output: Annotated[Path, typer.Option(help="Folder for the encoder, checkpoints, curves and pictures.")] = Path(
        "pretrained"
    ),
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of a pretraining bundle, instead of the one that medfm3d ships.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Steps, instead of the bundle's.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Pretrain an encoder on scans without labels; goes on where a run in the same folder was cut off."""
    result = run_pretraining(data, output, bundle=bundle, max_steps=max_steps, device=device, seed=seed)
    Console().print(
        f"{result['steps']} steps in {result['pretraining_s']:.0f} s, loss {result['last_loss']:.3f}: "
        f"{result['encoder']}",
        highlight=False,
        soft_wrap=True,
    )
    write_result(result, json_file)


def run_pretraining(
    data: Path,
    output: Path,
    *,
    bundle: Path | None = None,
    max_steps: int | None = None,
    device: str = "auto",
    seed: int = 0,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a pretraining bundle's train workflow; see `pretrain`. `overrides` replaces further values of its config.

    Returns:
        Steps done, losses of the first step of this run and of the last, the encoder's file and the time taken.

    Raises:
        ValueError: if the run in the output folder is complete already, so that nothing is left to do.
    """
    started = time.perf_counter()
    values = {
        "dataset_dir": str(data),
        "output_dir": str(output),
        "device": str(start(device, seed)),
        "seed": seed,
        **(overrides or {}),
    }
    if max_steps is not None:
        values["max_steps"] = max_steps
    workflow = run_workflow(bundle_template(TEMPLATE) if bundle is None else bundle, "train", values)
    trainer, callbacks = (workflow.parser.get_parsed_content(part) for part in ("trainer", "callbacks"))
    export = callbacks["export"]
    if export.first_loss is None:
        raise ValueError(
            f"{output}: holds a run of {trainer.global_step} steps that is complete; name another folder, or more steps"
        )
    return {
        "steps": trainer.global_step,
        "first_loss": export.first_loss,
        "last_loss": export.last_loss,
        "encoder": str(export.path),
        "pretraining_s": time.perf_counter() - started,
    }
