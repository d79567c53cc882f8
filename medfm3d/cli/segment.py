"""`medfm3d segment`: a bundle outlines its organs in scans."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from medfm3d.cli.options import Device, JsonFile, Seed, parse_names, start, write_result
from medfm3d.inference import (
    BundleError,
    changes_file,
    list_changes,
    list_inputs,
    list_log_priors,
    list_quality,
    list_refinements,
    list_remarks,
    log_priors_file,
    quality_file,
    read_card,
    read_priors,
    refinement_file,
    require_values,
    run_workflow,
)
from medfm3d.volumes import output_name

WORST = 3  # cases that are named on the screen


def segment(
    bundle: Annotated[Path, typer.Option(help="Folder of an adapted bundle.")],
    input_path: Annotated[Path, typer.Option("--input", help="A scan, a DICOM series folder, or a folder of scans.")],
    output: Annotated[Path, typer.Option(help="Folder for the masks.")],
    probabilities: Annotated[bool, typer.Option(help="Also write each organ's probability.")] = False,
    apply_priors: Annotated[
        bool, typer.Option(help="Remove pieces that the bundle's priors do not expect, and list each of them.")
    ] = False,
    tta: Annotated[
        int, typer.Option(min=0, help="Looks at each scan, slightly turned and changed, that are averaged; 0 for one.")
    ] = 0,
    transductive: Annotated[
        bool,
        typer.Option(
            help="First correct the network, for each scan alone, where an organ's size is unlikely by the bundle's "
            "priors, and say what that changed."
        ),
    ] = False,
    logit_priors: Annotated[
        str | None,
        typer.Option(
            help="Priors whose log-probability is added to what the network says, such as location,laterality; what "
            "that changed is listed.",
            metavar="NAME,...",
        ),
    ] = None,
    boxed: Annotated[
        bool | None,
        typer.Option(help="Search organs only where the bundle's location prior expects them; by default as trained."),
    ] = None,
    uncertainty: Annotated[bool, typer.Option(help="Also write how unsure each voxel is, from 0 to 1.")] = False,
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
        tta=tta,
        transductive=transductive,
        logit_priors=parse_names(logit_priors),
        boxed=boxed,
        uncertainty=uncertainty,
        device=device,
        seed=seed,
    )
    console = Console()
    for change in result["changes"]:
        console.print(
            f"[yellow]removed[/] {change['case']}: a piece of {change['organ']}, {change['voxels']} voxels",
            highlight=False,
        )
    for change in result["log_priors"]:
        what = f"{change['organ']} gained {change['gained']} and lost {change['lost']} voxels"
        console.print(f"[yellow]{change['prior']} prior[/] {change['case']}: {what}", highlight=False)
    for refinement in result["refinements"]:
        for organ in refinement["organs"]:
            change = f"{organ['before_ml']:.3g} to {organ['after_ml']:.3g} mL"
            expected = "" if organ["expected_ml"] is None else f", expected {organ['expected_ml']:.3g} mL"
            case = f"{refinement['case']}: {organ['organ']} {change}{expected}; {organ['note']}"
            console.print(f"[cyan]refined in {refinement['steps']} steps[/] {case}", highlight=False)
    for remark in result["remarks"]:
        console.print(f"[yellow]surprise[/] {remark['case']}: {remark['text']}", highlight=False)
    for quality in result["quality"][:WORST] if len(result["quality"]) > 1 else []:
        organs = ", ".join(f"{organ} {dice:.2f}" for organ, dice in quality["predicted_dice"].items())
        console.print(f"[cyan]look here first[/] {quality['case']}: predicted Dice {organs}", highlight=False)
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
    tta: int = 0,
    transductive: bool = False,
    logit_priors: list[str] | None = None,
    boxed: bool | None = None,
    uncertainty: bool = False,
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
    for scan in inputs:  # what was said of earlier masks does not hold of these
        quality_file(output, scan).unlink(missing_ok=True)
        refinement_file(output, scan).unlink(missing_ok=True)
    if not logit_priors:
        for scan in inputs:
            log_priors_file(output, scan).unlink(missing_ok=True)
    options = {"tta": tta, "transductive": transductive, "save_uncertainty": uncertainty}
    if logit_priors:
        known = read_priors(bundle).priors
        if unknown := [name for name in logit_priors if name not in known]:
            raise BundleError(f"{bundle}: has no prior {', '.join(unknown)}, only {', '.join(known)}")
        options["logit_priors"] = logit_priors
    if boxed is not None:
        options["boxed"] = boxed
    if any(options.values()):
        require_values(bundle, "inference", [name for name, value in options.items() if value])
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
            **options,
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
        "log_priors": [one for one in list_log_priors(output) or [] if one["case"] in names] if logit_priors else [],
        "quality": list_quality(output, names),
        "refinements": list_refinements(output, inputs) if transductive else [],
        "remarks": list_remarks(bundle, [Path(mask) for mask in masks], inputs),
        "segmentation_s": elapsed,
        "case_s": elapsed / len(inputs),
    }


def saved_masks(workflow: Any) -> list[Path]:
    """Return the files that an inference workflow wrote, in the order of its inputs."""
    return workflow.parser.get_parsed_content("postprocessing").transforms[-1].written
