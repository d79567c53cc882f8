"""`medfm3d adapt`: a few labelled scans become a bundle."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape

from medfm3d.adaptation import AUTO, METHODS, AdaptationPlan, encoder_remarks
from medfm3d.cli.options import Device, JsonFile, Organs, Seed, parse_arguments, parse_organs, start, write_result
from medfm3d.cohorts import Cohort, cohort_from_folders
from medfm3d.cohorts.organ_masks import cohort_from_organ_masks, holds_organ_masks
from medfm3d.encoders.public_weights import find_encoder
from medfm3d.inference import bundle_template, check_output, read_card, run_workflow
from medfm3d.volumes import read_label
from medfm3d.volumes.check import MAX_SPACING_MM, MIN_SPACING_MM

TEMPLATE = "fewshot_organ_segmentation"
Method = Enum("Method", {name: name for name in METHODS}, type=str)


def adapt(
    images: Annotated[Path, typer.Option(help="Folder of scans.")],
    labels: Annotated[
        Path,
        typer.Option(
            help="Folder of label maps, named as the scans; of DICOM SEG or RTSTRUCT files; or of a folder for each "
            "scan with one mask file for each organ."
        ),
    ],
    organs: Organs,
    output: Annotated[Path, typer.Option(help="Folder that becomes the bundle; must be new or empty.")],
    cases: Annotated[
        str | None, typer.Option(help="Names of the support cases, a,b,c; all labelled scans if left out.")
    ] = None,
    method: Annotated[Method, typer.Option(help="Adaptation method.")] = Method["decoder"],
    method_arguments: Annotated[
        str | None, typer.Option(help="The method's arguments, such as rank=4,alpha=8.", metavar="NAME=VALUE,...")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Imported weights by name (see `medfm3d weights`), or the file of an encoder.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Steps, instead of the method's own.")] = None,
    modality: Annotated[str, typer.Option(help="CT, MR, or auto to tell from the intensities.")] = "auto",
    spacing_mm: Annotated[
        float | None,
        typer.Option(min=MIN_SPACING_MM, max=MAX_SPACING_MM, help="Working voxel size in mm instead of the median's."),
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Adapt to organs outlined in 1 to 10 scans; writes a MONAI bundle that segments the others."""
    names = [name.strip() for name in cases.split(",")] if cases else None
    named = parse_organs(organs)
    with _cohort(images, labels, named, names) as cohort:
        result = run_adaptation(
            cohort,
            named,
            output,
            names=names,
            method=method.value,
            method_arguments=parse_arguments(method_arguments),
            encoder=encoder,
            iterations=iterations,
            modality=modality,
            spacing_mm=spacing_mm,
            device=device,
            seed=seed,
        )
    console = Console()
    unnamed = [
        f"label value {value} in {maps} of {len(result['support'])} label maps has no name: it counted as background"
        for value, maps in result["unnamed"].items()
    ]
    for remark in (*result["encoder_remarks"], *unnamed):
        console.print(f"[yellow]remark[/] {escape(remark)}", highlight=False, soft_wrap=True)
    if method.value == AUTO:
        console.print(escape(result["method_reason"]), highlight=False)
    took = f"adapted by {result['method']} to {len(result['support'])} scans in {result['adaptation_s']:.0f} s"
    console.print(f"{took}: {escape(str(output))}", soft_wrap=True)
    write_result(result, json_file)


@contextmanager
def _cohort(images: Path, labels: Path, organs: Mapping[str, int], names: list[str] | None) -> Iterator[Cohort]:
    """Give the cohort of two folders; label maps made of other outlines last as long as it is used."""
    # Loads highdicom, which other commands need not wait for.
    from medfm3d.cohorts.dicom_outlines import cohort_from_dicom_outlines, holds_dicom_outlines

    if holds_dicom_outlines(labels):
        convert = cohort_from_dicom_outlines
    elif holds_organ_masks(images, labels):
        convert = cohort_from_organ_masks
    else:
        yield cohort_from_folders(images, labels, names=names)
        return
    with tempfile.TemporaryDirectory(prefix="medfm3d-outlines-") as converted:
        yield convert(images, labels, organs, converted, names=names)


def run_adaptation(
    cohort: Cohort,
    organs: dict[str, int],
    output: Path,
    *,
    names: list[str] | None = None,
    method: str = "decoder",
    method_arguments: Mapping[str, Any] | None = None,
    encoder: str | None = None,
    iterations: int | None = None,
    modality: str = "auto",
    spacing_mm: float | None = None,
    device: str = "auto",
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the template bundle's train workflow; see `adapt`.

    With an encoder other than the shipped one the decoder starts fresh, and the result has `encoder_remarks`: what
    differs between these scans and those that it was trained on. `unnamed` has the label values of the support set that
    are no organ's, and in how many label maps they are.

    `config` replaces further values of the workflow's config, by id. Returns what was done, with `adaptation_s` and the
    number of `trained_parameters`.
    """
    started = time.perf_counter()
    check_output(output)
    if names is None:
        names = [case.name for case in cohort.cases if case.label is not None]
    overrides = {
        "cohort": cohort,
        "output_dir": str(output),
        "name": output.resolve().name,
        "organs": organs,
        "cases": names,
        "method": method,
        "method_arguments": dict(method_arguments or {}),
        "modality": modality,
        "spacing_mm": spacing_mm,
        "device": start(device, seed),
        "seed": seed,
    }
    if encoder is not None:
        pretrained = find_encoder(encoder)
        overrides |= {
            "encoder": pretrained.architecture,
            "encoder_arguments": dict(pretrained.arguments),
            "encoder_weights": str(pretrained.path),
            "decoder_weights": None,
        }
    if iterations is not None:
        overrides["iterations"] = iterations
    workflow = run_workflow(bundle_template(TEMPLATE), "train", overrides | dict(config or {}))
    optimizer = workflow.parser.get_parsed_content("optimizer")
    card = read_card(output)
    values = [np.unique(read_label(case.label).array) for case in workflow.parser.get_parsed_content("support")]
    maps = Counter(map(int, np.concatenate(values)))
    known = {0, *card["plan"]["organs"].values()}
    return {
        **card,
        "encoder_remarks": encoder_remarks(card["encoder_provenance"], AdaptationPlan(**card["plan"])),
        "unnamed": {value: count for value, count in sorted(maps.items()) if value not in known},
        "bundle": str(output),
        "adaptation_s": time.perf_counter() - started,
        "trained_parameters": sum(weight.numel() for group in optimizer.param_groups for weight in group["params"]),
    }
