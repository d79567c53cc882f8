"""`medfm3d segment`: a bundle outlines its organs in scans."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.inference import changes_file, list_changes, list_inputs, list_remarks, read_card, run_workflow
from medfm3d.volumes import output_name


def segment(
    bundle: Annotated[Path, typer.Option(help="Folder of an adapted bundle.")],
    input_path: Annotated[Path, typer.Option("--input", help="A scan, a DICOM series folder, or a folder of scans.")],
    output: Annotated[Path, typer.Option(help="Folder for the masks.")],
    probabilities: Annotated[bool, typer.Option(help="Also write each organ's probability.")] = False,
    apply_priors: Annotated[
        bool, typer.Option(help="Remove pieces that the bundle's priors do not expect, and list each of them.")
    ] = False,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Outline the bundle's organs in a scan or a folder of scans, on each scan's own grid."""
    result = run_segmentation(
        bundle,
        input_path,
        output,
        probabilities=probabilities,
        apply_priors=apply_priors,
        device=device,
        seed=seed,
    )
    console = Console()
    for change in result["changes"]:
        console.print(
            f"[yellow]removed[/] {change['case']}: a piece of {change['organ']}, {change['voxels']} voxels",
            highlight=False,
        )
    for remark in result["remarks"]:
        console.print(f"[yellow]surprise[/] {remark['case']}: {remark['text']}", highlight=False)
    console.print(f"{len(result['masks'])} masks in {output}, {result['case_s']:.2f} s a case")
    write_result(result, json_file)


def run_segmentation(
    bundle: Path,
    input_path: Path,
    output: Path,
    *,
    inputs: list[Path] | None = None,
    probabilities: bool = False,
    apply_priors: bool = False,
    device: str = "auto",
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a bundle's inference workflow; `inputs` names the scans instead of what lies at `input_path`.

    `config` replaces further values of the workflow's config, by id.
    """
    card = read_card(bundle)
    inputs = list_inputs(input_path) if inputs is None else inputs
    if not apply_priors:  # what an earlier run into this folder took away is in none of the masks of this one
        for scan in inputs:
            changes_file(output, scan).unlink(missing_ok=True)
    started = time.perf_counter()
    workflow = run_workflow(
        bundle,
        "inference",
        {
            "dataset_dir": str(input_path),
            "datalist": [str(path) for path in inputs],
            "output_dir": str(output),
            "save_probabilities": probabilities,
            "apply_priors": apply_priors,
            "device": start(device, seed),
            **(config or {}),
        },
    )
    elapsed = time.perf_counter() - started
    masks = [str(path) for path in saved_masks(workflow)]
    names = {output_name(mask) for mask in masks}
    changes = [change for change in list_changes(output) or [] if change["case"] in names] if apply_priors else []
    return {
        "bundle": card["name"],
        "masks": masks,
        "changes": changes,
        "remarks": list_remarks(bundle, [Path(mask) for mask in masks]),
        "segmentation_s": elapsed,
        "case_s": elapsed / len(inputs),
    }


def saved_masks(workflow: Any) -> list[Path]:
    """Return the files that an inference workflow wrote, in the order of its inputs."""
    return workflow.parser.get_parsed_content("postprocessing").transforms[-1].written
