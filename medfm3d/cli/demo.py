"""`medfm3d demo`: the whole way from a few outlined scans to masks and a report, timed."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from medfm3d.cli.adapt import Method, run_adaptation
from medfm3d.cli.evaluate import print_summary, run_report
from medfm3d.cli.options import Device, JsonFile, Seed, start, write_result
from medfm3d.cli.segment import require_all, run_segmentation
from medfm3d.cohorts import Case, Cohort, k_shot_split, list_manifests, read_cohort
from medfm3d.cohorts.phantom import write_phantom_cohort
from medfm3d.evaluation import case_name, evaluate_cases

PHANTOM_CASES = 13
PHANTOM_ITERATIONS = 600  # phantoms are easier than patients, and a first try should be short


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Cohort in Decathlon layout, or the name of one in the folder that MEDFM3D_DATA names; "
            "the synthetic phantom if left out."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for everything that is made; must not exist yet.")] = None,
    k: Annotated[int, typer.Option(min=1, help="Number of support cases.")] = 5,
    queries: Annotated[int, typer.Option(min=1, help="Largest number of cases to segment.")] = 60,
    method: Annotated[Method, typer.Option(help="Adaptation method.")] = Method["decoder"],
    iterations: Annotated[int | None, typer.Option(min=1, help="Steps, instead of the method's own.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Adapt to K cases, segment others that are labelled too, and report how well that went."""
    console = Console()
    output = Path(time.strftime("medfm3d_demo_%Y%m%d_%H%M%S")) if output is None else output
    if output.exists():
        raise ValueError(f"{output}: already there; name another output folder")
    start(device, seed)
    if data is None:
        console.print("generating the synthetic phantom cohort")
        folder = write_phantom_cohort(output / "phantom", cases=max(PHANTOM_CASES, k + 2), seed=seed)
        iterations = PHANTOM_ITERATIONS if iterations is None else iterations
    else:
        folder = find_data(data)
    cohort, support, query = choose_cases(folder, k, seed)
    query = query[:queries]
    if not query:
        raise ValueError(f"{folder}: no labelled case is left to segment beside {k} support cases; lower --k")
    console.print(
        f"{escape(cohort.name)}: adapting to {len(support)} cases, to segment {len(query)} others", highlight=False
    )
    bundle = output / "bundle"
    adapted = run_adaptation(
        cohort,
        cohort.organs,
        bundle,
        names=[case.name for case in support],
        method=method.value,
        iterations=iterations,
        device=device,
        seed=seed,
    )
    predictions = output / "predictions"
    segmented = run_segmentation(
        bundle, folder, predictions, inputs=[case.image for case in query], device=device, seed=seed
    )
    require_all(segmented)
    # The report knows masks and scans by their files' names, whatever the cohort calls its cases and label maps.
    scored = [replace(case, name=case_name(mask)) for case, mask in zip(query, segmented["masks"], strict=True)]
    evaluation = evaluate_cases(scored, segmented["masks"], cohort.organs, seed=seed)
    reported = run_report(
        predictions,
        query[0].image.parent,
        cohort.organs,
        output / "report.html",
        labels={case.name: case.label for case in scored},
        evaluation=evaluation,
        bundle=bundle,
    )
    print_summary(evaluation)
    result = {
        "cohort": cohort.name,
        "support": [case.name for case in support],
        "queries": len(query),
        "adaptation_s": adapted["adaptation_s"],
        "case_s": segmented["case_s"],
        "mean_dice": evaluation.mean_dice,
        "evaluation": reported["summary"],
        "remarks": reported["remarks"],
        "bundle": str(bundle),
        "report": str(output / "report.html"),
    }
    console.print(
        f"adapted in {adapted['adaptation_s']:.0f} s, segmented in {segmented['case_s']:.2f} s a case\n"
        f"bundle: {escape(str(bundle))}\nreport: {escape(str(output / 'report.html'))}",
        highlight=False,
        soft_wrap=True,
    )
    write_result(result, json_file)


def find_data(data: Path) -> Path:
    """Return the folder of a cohort, given as a path or by its name in the folder of real scans.

    Raises:
        ValueError: if it is at neither place.
    """
    if (data / "dataset.json").is_file():
        return data
    root = os.environ.get("MEDFM3D_DATA")
    if root and (Path(root) / data / "dataset.json").is_file():
        return Path(root) / data
    at = f"nor {Path(root) / data}" if root else "and MEDFM3D_DATA names no folder to look in"
    raise ValueError(f"{data}: holds no dataset.json, {at}; name a cohort's folder in Decathlon layout")


def choose_cases(folder: Path, k: int, seed: int) -> tuple[Cohort, list[Case], list[Case]]:
    """Return a cohort to adapt to, K support cases of it, and labelled cases that are not in it, to be segmented.

    Where a manifest knows the cohort, the support comes from its development split and the rest from its test split:
    cases of that split served neither to pretrain nor to choose anything that medfm3d ships.
    """
    cohort = read_cohort(folder)
    manifest: Any = next((m for m in list_manifests() if m.title == cohort.name and m.splits), None)
    if manifest is not None and {"development", "test"} <= manifest.splits.keys():
        whole = read_cohort(folder, manifest)
        cohort, rest = whole.split("development"), whole.split("test")
        support = k_shot_split(cohort, k, seed).support
    else:
        support, rest = k_shot_split(cohort, k, seed)
        cohort = cohort.without(rest.names)
    organs = cohort.organs
    return cohort, list(support), [case for case in rest if any(case.outlines(organ) for organ in organs)]
