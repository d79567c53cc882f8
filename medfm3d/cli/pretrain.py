"""`medfm3d pretrain`: an encoder learns from scans without labels."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.encoders import ENCODERS, SwinEncoder, ViTEncoder
from medfm3d.encoders.public_weights import find_encoder
from medfm3d.inference import bundle_template, run_workflow

TEMPLATES = {ViTEncoder: "mae_vit_pretraining", SwinEncoder: "mae_swin_pretraining"}
DEFAULT_TEMPLATE = TEMPLATES[ViTEncoder]


def pretrain(
    data: Annotated[
        Path, typer.Option(help="A folder of scans, or one with a dataset.json (labels are not used), or a store.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the encoder, checkpoints, curves and pictures.")] = Path(
        "pretrained"
    ),
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of a pretraining bundle, instead of the one that medfm3d ships.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="vit_tiny to vit_large, or swin_tiny to swin_base, instead of the bundle's; or weights to go on from: "
            "imported ones by name (see `medfm3d weights`), or an encoder's .safetensors file."
        ),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Steps, instead of the bundle's.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Pretrain an encoder on scans without labels; goes on where a run in the same folder was cut off."""
    result = run_pretraining(
        data, output, bundle=bundle, encoder=encoder, max_steps=max_steps, device=device, seed=seed
    )
    Console().print(
        f"{result['steps']} steps in {result['pretraining_s']:.0f} s, loss {result['last_loss']:.3f}: "
        f"{escape(str(result['encoder']))}",
        highlight=False,
        soft_wrap=True,
    )
    write_result(result, json_file)


def run_pretraining(
    data: Path,
    output: Path,
    *,
    bundle: Path | None = None,
    encoder: str | None = None,
    max_steps: int | None = None,
    device: str = "auto",
    seed: int = 0,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a pretraining bundle's train workflow; see `pretrain`. `overrides` replaces further values of its config.

    Returns:
        Steps done, losses of the first step of this run and of the last, the encoder's file and the time taken.

    Raises:
        ValueError: if the run in the output folder is complete already, so that nothing is left to do, or no bundle is
            named and none that medfm3d ships trains this encoder.
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
    if encoder is not None and encoder not in ENCODERS:
        pretrained = find_encoder(encoder)
        encoder = pretrained.architecture
        values |= {"encoder_arguments": dict(pretrained.arguments), "initial_encoder": str(pretrained.path)}
    if encoder is not None:
        values["encoder"] = encoder
    workflow = run_workflow(bundle_template(_template(encoder)) if bundle is None else bundle, "train", values)
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


def _template(encoder: str | None) -> str:
    """Return the name of the bundle that pretrains a named encoder."""
    if encoder is None:
        return DEFAULT_TEMPLATE
    trained = [name for name, spec in ENCODERS.items() if spec.encoder_class in TEMPLATES]
    if encoder not in trained:
        raise ValueError(f"no bundle for masked pretraining of {encoder!r}: choose one of {', '.join(trained)}")
    return TEMPLATES[ENCODERS[encoder].encoder_class]
