"""What the Train button does: few-shot adaptation to all labels saved so far, put in the bundle's place when done."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ignite.engine import Engine, Events
from monai.utils import set_determinism

from medfm3d.cohorts import Case, Cohort
from medfm3d.inference import BundleError, bundle_template, read_card, staging_folder
from medfm3d.inference.workflow import open_workflow
from medfm3d.segmentation import resolve_device
from medfm3d.serving.annotations import read_annotation
from medfm3d.serving.bundle_versions import replace_bundle
from medfm3d.serving.served_bundle import ServedBundle
from medfm3d.serving.server import PROCESS_VARIABLE
from medfm3d.volumes import VolumeError, read_volume, write_volume

TEMPLATE = "fewshot_organ_segmentation"
# MSD Hippocampus, K = 5: see docs/slicer.md for the time and Dice of other numbers.
STEPS = 250


@dataclass(frozen=True)
class DrawnScan:
    """A scan and the label that was saved for it, with the segments' names as Slicer sent them."""

    name: str
    image: Path
    label: Path
    label_info: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is: steps done of all, the loss, and the seconds since its start."""

    step: int
    steps: int
    loss: float
    elapsed_s: float


def train_bundle(
    bundle: ServedBundle,
    scans: Sequence[DrawnScan],
    *,
    steps: int = STEPS,
    device: str = "auto",
    seed: int = 0,
    cache_dir: Path | None = None,
    say: Callable[[str], None] = print,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Adapt a bundle to all drawn scans and put the result in its place; the earlier one is kept.

    It starts from the bundle's pretrained encoder and decoder and not from the last model, so that the result follows
    from the labels, the steps and the seed alone, in whatever order the labels came. A scan in which an organ of the
    bundle is not drawn is left out, and named. Whatever fails, the bundle stays as it was.

    Args:
        bundle: an adapted or fresh bundle.
        scans: scans with what was drawn in them.
        steps: optimiser steps.
        device: as for `resolve_device`.
        seed: of everything random.
        cache_dir: folder that keeps prepared scans from one training to the next.
        say: is told in words what happens.
        on_progress: is told after each tenth of the steps.

    Returns:
        The new bundle's card, with `remarks`, `kept` (where the earlier bundle is, if there was one) and `training_s`.

    Raises:
        VolumeError: if a label is unusable, or no scan shows every organ: naming the file, the fault and the remedy.
        BundleError: if the bundle is being trained already.
    """
    started = time.perf_counter()
    lock = FileLock(bundle.path.with_name(f".{bundle.name}.training.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BundleError(f"{bundle.path}: is being trained already; wait for it, or stop it") from error
    work = bundle.path.with_name(f".{bundle.name}.new")
    try:
        for left_over in (work, Path(staging_folder(work / "bundle"))):
            shutil.rmtree(left_over, ignore_errors=True)
        work.mkdir(parents=True)
        set_determinism(seed=seed)
        cases, remarks = _support(bundle, scans, work / "labels")
        for remark in remarks:
            say(remark)
        say(f"training {bundle.name} on {len(cases)} scans: {', '.join(case.name for case in cases)}")
        _adapt(bundle, cases, work / "bundle", steps, device, seed, cache_dir, started, on_progress)
        fresh = not bundle.trained
        kept = replace_bundle(bundle.path, work / "bundle")
        if fresh:  # there was no model that one might want back
            shutil.rmtree(kept.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()
    seconds = time.perf_counter() - started
    earlier = "" if fresh else f"; the earlier one is kept as {kept}"
    say(f"{bundle.name} is ready after {seconds:.0f} s{earlier}")
    return {
        **read_card(bundle.path),
        "remarks": remarks,
        "kept": None if fresh else str(kept),
        "training_s": seconds,
    }


def _support(bundle: ServedBundle, scans: Sequence[DrawnScan], folder: Path) -> tuple[list[Case], list[str]]:
    """Write what was drawn as label maps on the scans' grids, and say what is not used."""
    organs, cases, remarks = bundle.organs, [], []
    for scan in sorted(scans, key=lambda scan: scan.name):
        image = read_volume(scan.image)
        annotation = read_annotation(scan.label, image, organs, scan.label_info)
        if annotation.missing:
            remarks.append(f"{scan.name}: left out, since {', '.join(annotation.missing)} is not drawn in it")
            continue
        if annotation.ignored:
            remarks.append(f"{scan.name}: {', '.join(annotation.ignored)} is no organ of {bundle.name} and not used")
        if annotation.resampled:
            remarks.append(f"{scan.name}: was drawn on another grid, and brought to the scan's")
        label = write_volume(annotation.label, folder / f"{scan.name}.nii.gz")
        cases.append(Case(scan.name, scan.image, label))
    if not cases:
        raise VolumeError(
            f"{bundle.name}: no scan has a saved label that shows every organ ({', '.join(organs)}): "
            f"{'; '.join(remarks) or 'there is no saved label'}; draw them all in one scan and press Submit Label"
        )
    if bundle.trained and len(cases) < len(before := read_card(bundle.path)["support"]):
        remarks.append(f"the model in place was made from {len(before)} scans, the new one is from {len(cases)}")
    return cases, remarks


def _adapt(
    bundle: ServedBundle,
    cases: Sequence[Case],
    output: Path,
    steps: int,
    device: str,
    seed: int,
    cache_dir: Path | None,
    started: float,
    on_progress: Callable[[TrainingProgress], None],
) -> None:
    organs = bundle.organs
    overrides = {
        "cohort": Cohort(bundle.name, tuple(cases), {number: name for name, number in organs.items()}),
        "cases": [case.name for case in cases],
        "organs": organs,
        "output_dir": str(output),
        "name": bundle.name,
        "iterations": steps,
        "seed": seed,
        "device": resolve_device(device),
        "cache_dir": None if cache_dir is None else str(cache_dir),
        **(_origin(bundle.path) if bundle.trained else {}),
    }
    workflow = open_workflow(bundle_template(TEMPLATE), "train", overrides)
    trainer = workflow.parser.get_parsed_content("train#trainer")

    def report(engine: Engine) -> None:
        done = engine.state.iteration
        total = engine.state.max_epochs * engine.state.epoch_length
        loss = float(engine.state.output[0]["loss"])
        on_progress(TrainingProgress(done, total, loss, time.perf_counter() - started))

    def stop_without_server(engine: Engine) -> None:
        if _server_has_ended():  # it was killed; nobody waits for this model
            raise BundleError(f"{bundle.path}: the server has ended, so its training ends too; start both again")

    trainer.add_event_handler(Events.EPOCH_COMPLETED, report)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, stop_without_server)
    workflow.run()
    workflow.finalize()


def _server_has_ended() -> bool:
    """Whether a server started this process and is its parent no more; it may have been killed while Python loaded."""
    server = os.environ.get(PROCESS_VARIABLE)
    return server is not None and os.getppid() != int(server)


def _origin(bundle: Path) -> dict[str, Any]:
    """What a bundle was made from and how, apart from its support set."""
    card = read_card(bundle)
    weights = {part: bundle / "models" / f"{part}.safetensors" for part in ("encoder", "decoder")}
    return {
        "method": card["method"],
        "method_arguments": card["method_arguments"],
        "priors": card["priors"],
        "training_priors": card["training_priors"],
        "boxed": card["boxed"],
        "encoder": card["encoder"],
        "encoder_arguments": card["encoder_arguments"],
        **{f"{part}_weights": str(file) if card[f"{part}_pretrained"] else None for part, file in weights.items()},
    }
