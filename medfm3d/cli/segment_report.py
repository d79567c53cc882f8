"""What `medfm3d segment` prints of a batch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

UNCODED = (
    "[yellow]remark[/] no code of SNOMED CT is known here for {}: in DICOM each has a code of the private scheme "
    "99MEDFM3D, made of its name"
)
WORST = 3  # cases that are named on the screen


def say(result: Mapping[str, Any], output: Path) -> None:
    """Print what `run_segmentation` returned."""
    console = Console()
    if result["uncoded"]:
        console.print(UNCODED.format(escape(", ".join(result["uncoded"]))), highlight=False, soft_wrap=True)
    for change in result["changes"]:
        what = f"a piece of {escape(change['organ'])}, {change['voxels']} voxels"
        console.print(f"[yellow]removed[/] {escape(change['case'])}: {what}", highlight=False)
    for change in result["log_priors"]:
        what = f"{escape(change['organ'])} gained {change['gained']} and lost {change['lost']} voxels"
        console.print(f"[yellow]{change['prior']} prior[/] {escape(change['case'])}: {what}", highlight=False)
    for refinement in result["refinements"]:
        for organ in refinement["organs"]:
            change = f"{organ['before_ml']:.3g} to {organ['after_ml']:.3g} mL"
            expected = "" if organ["expected_ml"] is None else f", expected {organ['expected_ml']:.3g} mL"
            case = f"{escape(refinement['case'])}: {escape(organ['organ'])} {change}{expected}; {escape(organ['note'])}"
            console.print(f"[cyan]refined in {refinement['steps']} steps[/] {case}", highlight=False)
    for remark in result["remarks"]:
        console.print(f"[yellow]surprise[/] {escape(remark['case'])}: {escape(remark['text'])}", highlight=False)
    for quality in result["quality"][:WORST] if len(result["quality"]) > 1 else []:
        organs = ", ".join(f"{organ} {dice:.2f}" for organ, dice in quality["predicted_dice"].items())
        console.print(f"[cyan]look here first[/] {escape(quality['case'])}: predicted Dice {organs}", highlight=False)
    for scan, error in result["failed"].items():
        console.print(f"[red]failed[/] {escape(scan)}: {escape(error)}", highlight=False, soft_wrap=True)
    kept = f", {result['resumed']} of them from before" if result["resumed"] else ""
    masks = f"{len(result['masks'])} masks in {escape(str(output))}"
    console.print(f"{masks}{kept}, {result['case_s']:.2f} s a case", soft_wrap=True)
    if result["not_done_yet"]:
        console.print(f"{result['not_done_yet']} scans of other shards are not in summary.csv yet")
