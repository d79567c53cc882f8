"""`medfm3d segment`: a bundle outlines its organs in scans."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from medfm3d.cli.options import Device, JsonFile, Seed, parse_names, start, write_result
from medfm3d.cli.segment_report import say
from medfm3d.encoders import file_sha256
from medfm3d.evaluation import write_batch_page
from medfm3d.inference import (
    BatchJournal,
    BatchShard,
    BundleError,
    CaseRecord,
    CaseSegmenter,
    check_names,
    check_replaced,
    fingerprint,
    forget_remarks,
    list_changes,
    list_inputs,
    list_log_priors,
    list_quality,
    list_refinements,
    mask_files,
    prepare_output,
    read_card,
    read_priors,
    require_values,
    segment_batch,
    segment_on_ray,
    watch_folder,
    write_shared_summary,
)
from medfm3d.volumes import VolumeError, output_name
from medfm3d.volumes.paths import RTSTRUCT_SUFFIX, SEG_SUFFIX, dicom_labels_suffix


class OutputFormat(str, Enum):
    """File type of the masks."""

    NIFTI = "nifti"
    NRRD = "nrrd"
    MHA = "mha"
    DICOM_SEG = "dicom-seg"
    RTSTRUCT = "rtstruct"


SUFFIXES = {
    OutputFormat.NIFTI: ".nii.gz",
    OutputFormat.NRRD: ".nrrd",
    OutputFormat.MHA: ".mha",
    OutputFormat.DICOM_SEG: SEG_SUFFIX,
    OutputFormat.RTSTRUCT: RTSTRUCT_SUFFIX,
}


class Engine(str, Enum):
    """Where scans are segmented."""

    LOCAL = "local"
    RAY = "ray"


def segment(
    bundle: Annotated[Path, typer.Option(help="Folder of an adapted bundle.")],
    input_path: Annotated[Path, typer.Option("--input", help="A scan, a DICOM series folder, or a folder of scans.")],
    output: Annotated[Path, typer.Option(help="Folder for the masks.")],
    output_format: Annotated[
        OutputFormat,
        typer.Option(help="File type of the masks; dicom-seg and rtstruct if scans are DICOM series."),
    ] = OutputFormat.NIFTI,
    probabilities: Annotated[bool, typer.Option(help="Also write each organ's probability.")] = False,
    apply_priors: Annotated[
        bool, typer.Option(help="Remove pieces that the bundle's priors do not expect, and list each of them.")
    ] = False,
    tta: Annotated[
        int, typer.Option(min=0, help="Test-time augmentation: passes over each scan that are averaged; 0 for one.")
    ] = 0,
    transductive: Annotated[
        bool,
        typer.Option(
            help="Test-time adaptation: where an organ's size is unlikely by the bundle's priors, first train the "
            "network's last weights on that scan for some steps, and say what that changed."
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
    again: Annotated[
        bool, typer.Option(help="Make masks anew that this bundle has made with these options before.")
    ] = False,
    watch: Annotated[
        float | None,
        typer.Option(min=0.1, help="Go on looking for new scans every so many seconds, until interrupted."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Do the I-th of N parts of the scans, each in a process of its own.", metavar="I/N"),
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="local: this process; ray: several, on this machine or a Ray cluster.")
    ] = Engine.LOCAL,
    onnx: Annotated[
        Path | None, typer.Option(help="Run this file of medfm3d export in place of the bundle's own network.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With ray: how many; by default one for each GPU, or each machine.")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Outline the bundle's organs in a scan or a folder of scans, on each scan's own grid.

    A scan that cannot be segmented is named, and the others go on; the exit code is 1 then. What was interrupted goes
    on when called again. summary.csv, summary.json and summary.html list volumes, surprises and times.
    """
    segment_with = partial(
        run_segmentation,
        bundle,
        input_path,
        output,
        output_format=output_format,
        probabilities=probabilities,
        apply_priors=apply_priors,
        tta=tta,
        transductive=transductive,
        logit_priors=parse_names(logit_priors),
        boxed=boxed,
        uncertainty=uncertainty,
        shard=None if shard is None else BatchShard.parse(shard),
        engine=engine,
        onnx=onnx,
        workers=workers,
        device=device,
        seed=seed,
    )
    try:
        if watch is not None:
            looks = chain([again], repeat(False))  # masks of the first look alone are made anew

            def segment_settled(scans: list[Path]) -> None:
                said = segment_with(inputs=scans, again=next(looks))
                say(said, output)
                write_result(said, json_file)

            watch_folder(input_path, watch, segment_settled, output=output)
            return
        result = segment_with(again=again)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; call again to go on")
        raise typer.Exit(130) from None  # as shells have it: 128 and the number of the signal
    say(result, output)
    write_result(result, json_file)
    if result["failed"]:
        raise typer.Exit(1)


def run_segmentation(
    bundle: Path,
    input_path: Path,
    output: Path,
    *,
    inputs: list[Path] | None = None,
    output_format: OutputFormat = OutputFormat.NIFTI,
    probabilities: bool = False,
    apply_priors: bool = False,
    tta: int = 0,
    transductive: bool = False,
    logit_priors: list[str] | None = None,
    boxed: bool | None = None,
    uncertainty: bool = False,
    again: bool = False,
    shard: BatchShard | None = None,
    engine: Engine = Engine.LOCAL,
    onnx: Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    on_case: Callable[[CaseRecord], None] = lambda record: None,
) -> dict[str, Any]:
    """Segment scans with a bundle; `inputs` names the scans instead of what lies at `input_path`.

    Masks that this bundle made with these options before are kept, unless `again`. `config` replaces further values of
    the inference workflow's config, by id. `on_case` is told of each scan when it is done or has failed. With a
    `shard`, only its part of the scans is done. `engine` and `workers` say where: see `segment_on_ray`.

    Returns:
        `masks`, and what is known of them; `failed`, the error of each scan that has no mask; `resumed`, how many masks
        were there already; `not_done_yet`, how many scans of other shards are not; `cases`, the record of each scan.
    """
    card = read_card(bundle)
    all_inputs = list_inputs(input_path, output) if inputs is None else inputs
    check_names(all_inputs)
    inputs = all_inputs if shard is None else shard.of(all_inputs)
    options = {"tta": tta, "transductive": transductive, "save_uncertainty": uncertainty}
    if logit_priors:
        known = read_priors(bundle).priors
        if unknown := [name for name in logit_priors if name not in known]:
            raise BundleError(f"{bundle}: has no prior {', '.join(unknown)}, only {', '.join(known)}")
        options["logit_priors"] = logit_priors
    if boxed is not None:
        options["boxed"] = boxed
    if output_format != OutputFormat.NIFTI:
        options["output_ext"] = SUFFIXES[output_format]
    if onnx is not None:
        options["onnx_file"] = str(onnx.absolute())
    if any(options.values()):
        require_values(bundle, "inference", [name for name, value in options.items() if value])
    values = {
        "dataset_dir": str(input_path),
        "output_dir": str(output),
        "save_probabilities": probabilities,
        "apply_priors": apply_priors,
        **options,
        **(config or {}),
    }
    exported = None if onnx is None or not onnx.is_file() else file_sha256(onnx)
    mark = fingerprint(bundle, {**values, "dataset_dir": "", "output_dir": "", "seed": seed, "exported": exported})
    computing = start(device, seed) if engine == Engine.LOCAL else None  # else that of a worker's machine
    masks_of = mask_files(output, inputs, values)
    prepare_output(output, masks_of)
    journal = BatchJournal(output, mark, **({} if shard is None else {"name": shard.journal_name}))
    kept = {} if again else journal.done(inputs)
    waiting = [scan for scan in inputs if scan not in kept]
    started = time.perf_counter()
    records = dict(kept)
    if waiting:
        if not again:
            check_replaced(journal, {scan: masks_of[scan] for scan in waiting})
        journal.begin(masks_of[scan] for scan in waiting)
        forget_remarks(output, waiting)
        if engine == Engine.RAY:
            made = segment_on_ray(bundle, values, waiting, mark, output, workers=workers, device=device, seed=seed)
        else:
            segmenter = CaseSegmenter(bundle, {**values, "datalist": [], "device": computing})
            made = segment_batch(segmenter, waiting, mark)
        for record in track(made, "segmenting", total=len(waiting), console=Console(stderr=True)):
            journal.add(record)
            records[Path(record.scan)] = record
            on_case(record)
    elapsed = time.perf_counter() - started
    cases = [records[scan] for scan in inputs]
    done = [(scan, record) for scan, record in zip(inputs, cases, strict=True) if record.mask]
    names = {output_name(record.mask) for _, record in done}
    changes = [change for change in list_changes(output) or [] if change["case"] in names] if apply_priors else []
    listed = write_shared_summary(journal, all_inputs)
    write_batch_page(output, title=f"Masks by {card['name']}", bundle=bundle)
    return {
        "bundle": card["name"],
        "masks": [record.mask for _, record in done],
        "failed": {record.scan: record.error for record in cases if record.error},
        "resumed": len(kept),
        "not_done_yet": len(all_inputs) - listed,
        "cases": [asdict(record) for record in cases],
        "uncoded": _uncoded(card["plan"]["organs"], output_format),
        "changes": changes,
        "log_priors": [one for one in list_log_priors(output) or [] if one["case"] in names] if logit_priors else [],
        "quality": list_quality(output, names),
        "refinements": list_refinements(output, [scan for scan, _ in done]) if transductive else [],
        "remarks": [remark for record in cases for remark in record.remarks],
        "segmentation_s": elapsed,
        "case_s": elapsed / max(1, len(waiting)),
    }


def _uncoded(organs: Sequence[str], output_format: OutputFormat) -> list[str]:
    if dicom_labels_suffix(SUFFIXES[output_format]) is None:
        return []
    from medfm3d.volumes.dicom_labels import uncoded_organs  # takes time to load

    return uncoded_organs(organs)


def require_all(result: Mapping[str, Any]) -> None:
    """Raise VolumeError if `run_segmentation` has failed with a scan, naming each of them."""
    if result["failed"]:
        raise VolumeError("; ".join(f"{scan}: {error}" for scan, error in result["failed"].items()))
