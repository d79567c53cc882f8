"""How good the mask is after 1, 3, 5 and 10 clicks on cohorts that the network was not trained on.

    MEDFM3D_DATA=../shared/data python tools/benchmark_prompts.py --cases 12 --output /tmp/prompts.json

Clicks are simulated as in nnInteractive: the first in the middle of the organ, each next one in the middle of the
largest error. Cases are the first of each cohort's development split: MSD Hippocampus (both parts, and the whole) and
OpenKBP head and neck (all organs outlined), none of which the shipped weights have seen a label of.

The baseline is a network as MONAI's DeepEdit has it (Diaz-Pinto et al. 2022): a DynUNet on the image and two channels
of clicks, with about as many trained weights, which runs whole at each click. `--train-baseline STEPS` trains it first
on the very data and clicks of `tools/train_promptable_weights.py`, and says what CPU time it took; compare networks
that took the same. `--latency` measures a click on a region of 128 x 128 x 128 voxels.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medfm3d.openmp import waiting_settings

os.environ.update(waiting_settings(os.environ))  # before torch is loaded

import lightning.pytorch as pl
import numpy as np
import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from train_promptable_weights import training_cohorts

from medfm3d.cohorts import read_cohort
from medfm3d.inference import bundle_template
from medfm3d.pretraining import AtomicCheckpointIO
from medfm3d.segmentation import resolve_precision
from medfm3d.segmentation.prompts import (
    ImageFeatures,
    OrganNames,
    PromptableSegmenter,
    PromptData,
    PromptSession,
    PromptTraining,
    first_click,
    load_promptable,
    next_click,
)
from medfm3d.volumes import read_label, read_volume

CLICKS = (1, 3, 5, 10)
COHORTS = {"hippocampus": "msd_hippocampus", "headneck_ct": "openkbp_headneck"}


class DeepEditNetwork(nn.Module):
    """DynUNet on the image and the clicks, with the interface of `PromptableSegmenter`; nothing is cached."""

    def __init__(self, filters: Sequence[int] = (24, 48, 96, 160)) -> None:
        super().__init__()
        strides = [1] + [2] * (len(filters) - 1)
        self.unet = DynUNet(3, 3, 1, [3] * len(filters), strides, strides[1:], filters=list(filters))
        self.image_decoder = nn.Identity()
        self.organ_names = OrganNames()
        self.window_multiple = 8

    def encode(self, image: Tensor) -> ImageFeatures:
        """Return the image as it is."""
        return ImageFeatures(image, (image, image, image))

    def decode(self, features: ImageFeatures, maps: Tensor, organ: Tensor | None = None) -> Tensor:
        """Return logits of image and clicks."""
        dtype = resolve_precision("auto", maps.device)
        with torch.autocast(maps.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            shown = torch.cat([features.image.expand(len(maps), -1, -1, -1, -1), maps[:, :2]], dim=1)
            return self.unet(shown).float()


def train_baseline(data: Path, work: Path, steps: int, seed: int) -> float:
    """Train the baseline as the shipped network was; returns its CPU seconds."""
    network = DeepEditNetwork()
    cohorts = PromptData(training_cohorts(data, work), steps_per_epoch=min(250, steps), seed=seed)
    module = PromptTraining(network, [{} for _ in cohorts.cohorts], cohorts.unlabelled, steps, 1e-3, seed=seed)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        logger=False,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            pl.callbacks.ModelCheckpoint(work / "baseline", save_top_k=0, save_last=True, every_n_train_steps=50)
        ],
    )
    last = work / "baseline" / "last.ckpt"
    started = time.process_time()
    trainer.fit(module, datamodule=cohorts, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    torch.save(network.state_dict(), work / "baseline.pt")
    return time.process_time() - started


def masks_of(label: np.ndarray, organs: dict[str, int], whole: str | None) -> dict[str, np.ndarray]:
    """Return the mask of each organ of a case, and of all together under the name `whole`."""
    found = {name: label == number for name, number in organs.items()}
    if whole:
        found[whole] = label > 0
    return {name: mask for name, mask in found.items() if mask.any()}


def clicked(session: PromptSession, target: np.ndarray, carry: bool) -> tuple[list[float], list[float]]:
    """Return the Dice after each of 10 clicks, and the CPU seconds of each answer."""
    session = session.fresh()
    click, dice, seconds = first_click(target), [], []
    for _ in range(max(CLICKS)):
        started = time.process_time()
        if click is not None:
            session.click(click.point, click.foreground)
        found = (session.mask() if carry else session.segment(session.prompt)).array > 0
        seconds.append(time.process_time() - started)
        dice.append(2 * float((found & target).sum()) / float(found.sum() + target.sum()))
        click = next_click(target, found)
    return dice, seconds


def measure(networks: dict[str, nn.Module], data: Path, cohort: str, cases: int) -> list[dict[str, Any]]:
    """Return a row for each network, case and organ."""
    known = read_cohort(data / cohort, COHORTS[cohort])
    chosen = [case for case in known.split("development") if case.label is not None][:cases]
    rows = []
    for case in chosen:
        image, label = read_volume(case.image), read_label(case.label)
        organs = {n: v for n, v in known.organs.items() if case.outlines(n) and n not in case.suspect}
        masks = masks_of(label.array, organs, "whole" if cohort == "hippocampus" else None)
        for name, network in networks.items():
            session = PromptSession(image, network)
            for organ, target in masks.items():
                dice, seconds = clicked(session, target, carry="anew" not in name)
                row = {"network": name, "cohort": cohort, "case": case.name, "organ": organ}
                rows.append({**row, "dice": dice, "cpu_s": seconds})
                shown = " ".join(f"{dice[count - 1]:.3f}" for count in CLICKS)
                print(f"{cohort} {case.name} {organ} {name}: {shown}", flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return mean Dice after each number of clicks, and CPU seconds a click, as a Markdown table."""
    lines = [f"| cohort | organ | network | n | {' | '.join(f'{n} clicks' for n in CLICKS)} | CPU s a click |"]
    lines.append("| --- " * (5 + len(CLICKS)) + "|")
    groups = {(row["cohort"], row["organ"], row["network"]) for row in rows}
    groups |= {(row["cohort"], "mean", row["network"]) for row in rows}
    for cohort, organ, network in sorted(groups):
        chosen = [r for r in rows if (r["cohort"], r["network"]) == (cohort, network) and organ in ("mean", r["organ"])]
        dice = np.mean([row["dice"] for row in chosen], axis=0)
        later = np.median([row["cpu_s"][1:] for row in chosen])
        shown = " | ".join(f"{dice[count - 1]:.3f}" for count in CLICKS)
        lines.append(f"| {cohort} | {organ} | {network} | {len(chosen)} | {shown} | {later:.2f} |")
    return "\n".join(lines)


def latency(network: PromptableSegmenter, threads: Sequence[int] = (1, 2)) -> str:
    """Return what encoding and a click take for 128 x 128 x 128 voxels, in CPU and clock seconds."""
    image, maps = torch.randn(1, 1, 128, 128, 128), torch.zeros(1, 4, 128, 128, 128)
    lines = []
    for count in threads:
        torch.set_num_threads(count)
        with torch.no_grad():
            marks = [(time.process_time(), time.perf_counter())]
            features = network.encode(image)
            for _ in range(4):
                marks.append((time.process_time(), time.perf_counter()))
                network.decode(features, maps)
            marks.append((time.process_time(), time.perf_counter()))
        cpu, clock = np.diff(np.array(marks), axis=0).T
        lines.append(
            f"{count} thread(s): encoding {cpu[0]:.2f} CPU s, {clock[0]:.2f} s; "
            f"a click {np.median(cpu[2:]):.2f} CPU s, {np.median(clock[2:]):.2f} s"
        )
    return "\n".join(lines)


def main() -> None:
    """Train the baseline if asked to, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=12, help="of each cohort's development split")
    parser.add_argument("--cohorts", nargs="*", default=list(COHORTS), choices=list(COHORTS))
    parser.add_argument("--work", type=Path, help="folder of the baseline's weights, and of phantoms to train it on")
    parser.add_argument("--train-baseline", type=int, metavar="STEPS", default=0)
    parser.add_argument("--anew", action="store_true", help="also answer each click without the last mask")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file for all rows, as JSON")
    arguments = parser.parse_args()
    data = Path(os.environ.get("MEDFM3D_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    shipped = load_promptable(bundle_template("promptable_segmentation"))
    networks: dict[str, nn.Module] = {"medfm3d": shipped}
    if arguments.anew:
        networks["medfm3d, anew"] = shipped
    if arguments.train_baseline:
        seconds = train_baseline(data, arguments.work, arguments.train_baseline, arguments.seed)
        print(f"baseline: {arguments.train_baseline} steps, {seconds:.0f} CPU s", flush=True)
    if arguments.work and (arguments.work / "baseline.pt").is_file():
        networks["DeepEdit"] = DeepEditNetwork()
        networks["DeepEdit"].load_state_dict(torch.load(arguments.work / "baseline.pt", weights_only=True))
    for name, network in networks.items():
        trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        print(f"{name}: {trained / 1e6:.1f} M trained weights", flush=True)
    if arguments.latency:
        print(latency(shipped), flush=True)
        torch.set_num_threads(1)
    rows = [row for cohort in arguments.cohorts for row in measure(networks, data, cohort, arguments.cases)]
    if arguments.output:
        arguments.output.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    if rows:
        print(table(rows))


if __name__ == "__main__":
    main()
