"""`medfm3d evaluate` and `medfm3d report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from medfm3d.cli.options import Device, JsonFile, Organs, Seed, parse_organs, start, write_result
from medfm3d.evaluation import Evaluation, evaluate_folder, write_report
from medfm3d.inference import list_remarks

Predictions = Annotated[Path, typer.Option(help="Folder of masks.")]


def evaluate(
    predictions: Predictions,
    labels: Annotated[Path, typer.Option(help="Folder of reference label maps, named as the masks.")],
    organs: Organs,
    tolerance_mm: Annotated[float, typer.Option(help="Tolerance of the normalised surface Dice in mm.")] = 2.0,
    csv: Annotated[Path | None, typer.Option(help="Also write each case's figures here as CSV.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Compare masks with reference outlines: Dice, HD95, surface Dice, volume error, with confidence intervals."""
    start(device, seed)
    evaluation = evaluate_folder(predictions, labels, parse_organs(organs), tolerance_mm=tolerance_mm, seed=seed)
    print_summary(evaluation)
    if csv is not None:
        evaluation.to_csv(csv)
    write_result(evaluation.to_json(), json_file)


def report(
    predictions: Predictions,
    images: Annotated[Path, typer.Option(help="Folder of scans, named as the masks.")],
    organs: Organs,
    output: Annotated[Path, typer.Option(help="HTML file to write.")],
    labels: Annotated[Path | None, typer.Option(help="Folder of reference label maps.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle whose priors remark on the masks.")] = None,
    tolerance_mm: Annotated[float, typer.Option(help="Tolerance of the normalised surface Dice in mm.")] = 2.0,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Write one HTML page: table, plots, overlays of best, median and worst case, and what surprised the priors."""
    start(device, seed)
    result = run_report(
        predictions,
        images,
        parse_organs(organs),
        output,
        labels=labels,
        bundle=bundle,
        tolerance_mm=tolerance_mm,
        seed=seed,
    )
    Console().print(f"report: {output}")
    write_result(result, json_file)
