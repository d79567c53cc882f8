"""Linear and k-NN probes of frozen encoders on organ voxels, as a table.

    python tools/probe_features.py --cohort hippocampus=DIR --cohort headneck_ct=DIR:CT \
        --encoder MAE=mae.safetensors --encoder DINO=dino.safetensors --encoder random=

Of each cohort, K labelled cases of the development split are drawn; those of a test split are never read. In each case
equally many voxels of every organ, and of what surrounds the organs, are drawn, and described by the encoder's whole
feature pyramid, interpolated at the voxel. A multinomial logistic regression and a vote of the 20 nearest neighbours
learn from half of the cases which organ a voxel belongs to, and are judged on the other half, several times with other
halves. Accuracy and macro F1 are the means over these draws, with their standard deviation. An encoder without a file
has random weights of --architecture.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from medfm3d.openmp import waiting_settings

os.environ.update(waiting_settings(os.environ))  # before torch is loaded

import numpy as np
import torch
from feature_probes.features import voxel_features
from feature_probes.probes import CaseFeatures, score_probe, split_cases
from feature_probes.voxels import LabelledVoxels, development_cases, draw_voxels

from medfm3d.encoders import Encoder, create_encoder, load_encoder
from medfm3d.volumes import write_json

PROBES = ("linear", "knn")


def read_voxels(folder: Path, modality: str, cases: int, per_class: int, seed: int) -> list[LabelledVoxels]:
    """Return voxels of K cases of a cohort.

    Raises:
        ValueError: if the cohort has fewer labelled development cases, or K is less than 2.
    """
    cohort = development_cases(folder)
    if not 2 <= cases <= len(cohort):
        raise ValueError(f"{folder}: has {len(cohort)} labelled development cases; ask for 2 to as many, not {cases}")
    drawn = np.random.default_rng(seed).permutation(len(cohort))[:cases]
    return [draw_voxels(cohort.cases[n], cohort, per_class, modality, seed) for n in sorted(drawn)]


def named_encoder(file: str, architecture: str, seed: int) -> Encoder:
    """Return the encoder of a file, or a fresh one of the architecture where there is none."""
    if file:
        return load_encoder(file)
    torch.manual_seed(seed)
    return create_encoder(architecture).eval()


def probe(encoder: Encoder, voxels: Sequence[LabelledVoxels], window: Sequence[int], draws: int, seed: int) -> dict:
    """Return, for each probe, mean and standard deviation over the draws of accuracy and macro F1."""
    described = [
        CaseFeatures(voxel_features(encoder, case.image, case.places, window).numpy(), case.names) for case in voxels
    ]
    row = {}
    for kind in PROBES:
        scores = []
        for draw in range(draws):
            training, testing = split_cases(len(described), draw, seed)
            scores.append(score_probe(kind, [described[n] for n in training], [described[n] for n in testing]))
        for measure in ("accuracy", "macro_f1"):
            values = [getattr(score, measure) for score in scores]
            row[f"{kind}_{measure}"] = [float(np.mean(values)), float(np.std(values))]
    return row


def print_table(rows: Sequence[dict]) -> None:
    """Print the rows as Markdown."""
    columns = [f"{kind}_{measure}" for kind in PROBES for measure in ("accuracy", "macro_f1")]
    print("| cohort | encoder | linear accuracy | linear macro F1 | k-NN accuracy | k-NN macro F1 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        cells = [f"{row[column][0]:.3f} ± {row[column][1]:.3f}" for column in columns]
        print(f"| {row['cohort']} | {row['encoder']} | {' | '.join(cells)} |")


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Run the command line; returns the rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", action="append", required=True, metavar="NAME=DIR[:MODALITY]")
    parser.add_argument("--encoder", action="append", required=True, metavar="NAME=FILE", help="random without FILE")
    parser.add_argument("--architecture", default="vit_tiny", help="of encoders with random weights")
    parser.add_argument("--cases", type=int, default=16, help="K, of each cohort")
    parser.add_argument("--per-class", type=int, default=40, help="voxels of an organ in a case")
    parser.add_argument("--draws", type=int, default=5, help="halves of the cases that are tried")
    parser.add_argument("--window", type=int, nargs=3, default=(48, 48, 48), help="voxels seen at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args(arguments)
    rows = []
    for cohort in options.cohort:
        name, _, place = cohort.partition("=")
        folder, _, modality = place.partition(":")
        voxels = read_voxels(Path(folder), modality or "auto", options.cases, options.per_class, options.seed)
        for entry in options.encoder:
            label, _, file = entry.partition("=")
            started = time.perf_counter()
            encoder = named_encoder(file, options.architecture, options.seed)
            row = probe(encoder, voxels, options.window, options.draws, options.seed)
            rows.append({"cohort": name, "encoder": label, **row, "duration_s": time.perf_counter() - started})
    print_table(rows)
    if options.json:
        write_json(rows, options.json)
    return rows


if __name__ == "__main__":
    main()
