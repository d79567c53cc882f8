"""`medfm3d evaluate` and `medfm3d report`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medfm3d.cli.options import Device, JsonFile, Organs, Seed, parse_organs, start, write_result
from medfm3d.cohorts import parse_cohort
from medfm3d.evaluation import (
    METRICS,
    Evaluation,
    MetricSummary,
    case_name,
    evaluate_folder,
    list_cases,
    list_predictions,
    rank_cases,
    write_report,
)
from medfm3d.evaluation.report import VIEWER_MB
from medfm3d.inference import list_changes, list_log_priors, list_quality, list_remarks, read_card

Predictions = Annotated[Path, typer.Option(help="Folder of masks.")]
CohortFolder = Annotated[
    Path | None,
    typer.Option(
        "--cohort",
        help="Folder whose dataset.json says under `annotated` which organs were outlined in a case; others are not "
        "scored there. Without it all were.",
    ),
]


def evaluate(
    predictions: Predictions,
    labels: Annotated[Path, typer.Option(help="Folder of reference label maps, named as the masks.")],
    organs: Organs,
    cohort: CohortFolder = None,
    tolerance_mm: Annotated[float, typer.Option(help="Tolerance of the normalised surface Dice in mm.")] = 2.0,
    csv: Annotated[Path | None, typer.Option(help="Also write each case's figures here as CSV.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Compare masks with reference outlines: Dice, HD95, surface Dice, volume error, with confidence intervals."""
    start(device, seed)
    named = parse_organs(organs)
    annotated = outlined_organs(cohort, named)
    evaluation = evaluate_folder(predictions, labels, named, tolerance_mm=tolerance_mm, seed=seed, annotated=annotated)
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
    cohort: CohortFolder = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle whose priors remark on the masks.")] = None,
    tolerance_mm: Annotated[float, typer.Option(help="Tolerance of the normalised surface Dice in mm.")] = 2.0,
    viewer_mb: Annotated[
        float, typer.Option(min=0, help="Megabytes of small copies of scans in the page, to look at; 0 for none.")
    ] = VIEWER_MB,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Write one HTML page: table, plots, overlays of best, median and worst case, and what surprised the priors."""
    start(device, seed)
    named = parse_organs(organs)
    evaluation = None
    if labels is not None:
        evaluation = evaluate_folder(
            predictions,
            labels,
            named,
            tolerance_mm=tolerance_mm,
            seed=seed,
            annotated=outlined_organs(cohort, named),
        )
    result = run_report(
        predictions, images, named, output, labels=labels, evaluation=evaluation, bundle=bundle, viewer_mb=viewer_mb
    )
    Console().print(f"report: {escape(str(output))}", soft_wrap=True)
    write_result(result, json_file)


def outlined_organs(folder: Path | None, organs: Mapping[str, int]) -> dict[str, tuple[str, ...]] | None:
    """Return the organs that were outlined in each case of a cohort's folder, for cases that say so; None without one.

    Raises:
        CohortError: the folder holds no usable dataset.json, or its names and ids are not those of the organs.
    """
    if folder is None:
        return None
    cases = parse_cohort(folder).with_organs(organs)
    return {case_name(case.label): case.annotated for case in cases if case.label and case.annotated is not None}


def print_summary(evaluation: Evaluation) -> None:
    """Print each organ's scores: the mean, and its 95 % interval where there is one."""
    table = Table(title=f"{len(evaluation.cases)} cases, surface Dice at {evaluation.tolerance_mm:g} mm")
    table.add_column("organ")
    for name in ("n", "absent", "one-sided", *METRICS.values()):
        table.add_column(name, justify="right", overflow="fold")
    summaries = evaluation.summary()
    for organ, summary in summaries.items():
        counts = (str(count) for count in (summary.n, summary.absent, summary.one_sided))
        table.add_row(escape(organ), *counts, *(_mean(summary.metrics[metric]) for metric in METRICS))
    console = Console()
    console.print(table)
    console.print("n: mask or outline has the organ; absent: neither has; one-sided: one alone, which counts as Dice 0")
    for organ, summary in summaries.items():
        if not summary.n:
            told = f"no mask and no outline has {escape(organ)}: is its id the one in these files?"
            console.print(f"[yellow]remark[/] {told}", highlight=False)
    if evaluation.mean_dice is not None:
        console.print(f"mean Dice over organs: {evaluation.mean_dice:.3f}")
    if evaluation.unpredicted:
        console.print(f"{len(evaluation.unpredicted)} cases with a label but no mask were not counted")


def run_report(
    predictions: Path,
    images: Path,
    organs: Mapping[str, int],
    output: Path,
    *,
    labels: Path | Mapping[str, Path] | None = None,
    evaluation: Evaluation | None = None,
    bundle: Path | None = None,
    viewer_mb: float = VIEWER_MB,
) -> dict[str, Any]:
    """Write the report on a folder of masks, with scores where they were evaluated and remarks where there is a bundle.

    Returns:
        `report`, the file; `remarks`, the priors' surprises; `changes`, what they took away from the masks, where
        they were allowed to; `annotate_next`, the cases by predicted Dice, lowest first; and `summary`, the evaluation,
        where there is one.
    """
    changes, quality = list_changes(predictions), list_quality(predictions)
    masks, scans = list_predictions(predictions), list_cases(images)
    seen = [scans.get(case) for case in masks]
    remarks = None if bundle is None else list_remarks(bundle, list(masks.values()), seen)
    path = write_report(
        output,
        evaluation=evaluation,
        predictions=predictions,
        images=images,
        labels=labels,
        organs=organs,
        remarks=remarks,
        changes=changes,
        log_priors=list_log_priors(predictions),
        quality=quality,
        title=f"Segmentation of {', '.join(organs)}",
        provenance=None if bundle is None else read_card(bundle),
        viewer_mb=viewer_mb,
    )
    result: dict[str, Any] = {"report": str(path), "remarks": remarks or [], "changes": changes or []}
    ranked = rank_cases(quality, list(list_predictions(predictions)), list(organs))
    result["annotate_next"] = [one.case for one in ranked]
    if evaluation is not None:
        result["summary"] = evaluation.to_json()
    return result


def _mean(metric: MetricSummary) -> str:
    if metric.mean is None:
        return "-"
    if metric.interval is None:
        return f"{metric.mean:.3f}"
    return f"{metric.mean:.3f} ({metric.interval[0]:.3f} to {metric.interval[1]:.3f})"
