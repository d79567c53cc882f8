"""Calibrate the predicted Dice of masks to their true Dice on held-out labelled cases of development splits.

    python tools/calibrate_predicted_dice.py --pair BUNDLE COHORT --pair ... --output predicted_dice.json

Each pair is an adapted bundle and the folder of a cohort. Cases of the cohort's development split that the bundle was
not adapted to are segmented, plainly and with test-time augmentation, and the features of their masks are regressed on
their true Dice. Bundles of very different quality (methods, numbers of support cases, few steps) make a model that can
tell poor masks. Every bundle counts as much as any other, every organ of a case that is outlined as one mask.

What the fit is worth is told by cross-validation over bundles, of which whole ones are left out: `pooled` correlates
over all masks, `within` is the mean over bundles and organs of the correlation among the masks of one, which is what
ranking the scans of one user takes. Masks that are empty are left out of both: they are told to have Dice 0.
"""

import argparse
import json
import logging
import shlex
import sys
import tempfile
import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr

from medfm3d.cohorts import Case, Cohort, list_manifests, read_cohort
from medfm3d.evaluation import score_case
from medfm3d.inference import PredictedDice, fit_dice_model, quality_file, read_card, run_workflow
from medfm3d.inference.predicted_dice import AUGMENTED, FEATURES, PLAIN
from medfm3d.volumes import read_label, write_json

SPLIT = "development"


def held_out(folder: Path, support: Sequence[str], limit: int, seed: int) -> tuple[Cohort, list[Case]]:
    """Return a cohort and labelled cases of its development split outside the support set.

    Raises:
        ValueError: if no manifest tells which cases are for development, or no case is left.
    """
    cohort = read_cohort(folder)
    manifest: Any = next((m for m in list_manifests() if m.title == cohort.name and SPLIT in (m.splits or {})), None)
    if manifest is None:
        raise ValueError(
            f"{folder}: no manifest has a {SPLIT} split of {cohort.name}; test cases must not be looked at"
        )
    cohort = read_cohort(folder, manifest)
    cases = [case for case in cohort.split(SPLIT) if case.name not in support and case.label]
    if not cases:
        raise ValueError(f"{folder}: no labelled case of the {SPLIT} split is outside the support set")
    drawn = np.random.default_rng(seed).permutation(len(cases))[:limit]
    return cohort, [cases[number] for number in sorted(drawn)]


def measure(bundle: Path, folder: Path, looks: int, limit: int, seed: int) -> list[dict[str, Any]]:
    """Segment held-out cases; returns one row for each outlined organ with its features and its true Dice."""
    card = read_card(bundle)
    _, cases = held_out(folder, card["support"], limit, seed)
    organs, rows = card["plan"]["organs"], []
    with tempfile.TemporaryDirectory() as place:
        overrides = {
            "datalist": [str(case.image) for case in cases],
            "output_dir": place,
            "device": torch.device("cpu"),
            "predicted_dice": None,
            "tta": looks,
        }
        workflow = run_workflow(bundle, "inference", overrides)
        masks = workflow.parser.get_parsed_content("postprocessing").transforms[-1].written
        for case, mask in zip(cases, masks, strict=True):
            features = json.loads(quality_file(place, case.image).read_text(encoding="utf-8"))["features"]
            outlined = {organ: number for organ, number in organs.items() if case.outlines(organ)}
            for score in score_case(read_label(mask), read_label(case.label), outlined, case=case.name):
                if score.dice is not None:
                    rows.append({**features[score.organ], "dice": score.dice, "organ": score.organ, "case": case.name})
    return rows


def cross_validated(groups: Sequence[list[dict[str, Any]]], features: Sequence[str], ridge: float) -> list[np.ndarray]:
    """Return, for each bundle's masks, the Dice that a model without that bundle predicts."""
    return [
        np.array([_fit([*groups[:left], *groups[left + 1 :]], features, ridge).predict(row) for row in groups[left]])
        for left in range(len(groups))
    ]


def agreement(groups: Sequence[list[dict[str, Any]]], predicted: Sequence[np.ndarray]) -> dict[str, float]:
    """Return how well predictions agree with true Dice, over all masks and within bundles and organs."""
    true = [np.array([row["dice"] for row in group]) for group in groups]
    within = []
    for group, guess, dice in zip(groups, predicted, true, strict=True):
        organ_of = np.array([row["organ"] for row in group])
        for organ in np.unique(organ_of):
            here = organ_of == organ
            if here.sum() >= 5 and np.ptp(guess[here]) > 0 and np.ptp(dice[here]) > 0:
                within.append((pearsonr(guess[here], dice[here])[0], spearmanr(guess[here], dice[here])[0]))
    guesses, dices = np.concatenate(predicted), np.concatenate(true)
    return {
        "masks": len(dices),
        "pearson_pooled": round(float(pearsonr(guesses, dices)[0]), 3),
        "spearman_pooled": round(float(spearmanr(guesses, dices)[0]), 3),
        "pearson_within": round(float(np.mean([pair[0] for pair in within])), 3),
        "spearman_within": round(float(np.mean([pair[1] for pair in within])), 3),
        "mean_absolute_error": round(float(np.abs(guesses - dices).mean()), 4),
    }


def _fit(groups: Sequence[list[dict[str, Any]]], features: Sequence[str], ridge: float) -> Any:
    rows = [row for group in groups for row in group]
    size = len(rows) / len(groups)
    counts = [size / len(group) for group in groups for _ in group]
    return fit_dice_model(rows, [row["dice"] for row in rows], features, ridge=ridge, case_weights=counts)


def main() -> None:
    """Measure, fit, cross-validate and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pair",
        nargs="+",
        action="append",
        required=True,
        metavar="BUNDLE COHORT [CASES]",
        help="an adapted bundle, the folder of a cohort, and, if not as --cases says, the number of cases",
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--cases", type=int, default=40, help="cases of a pair at most")
    parser.add_argument("--tta", type=int, default=4, help="looks of test-time augmentation")
    parser.add_argument("--ridge", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="of the draw of cases")
    parser.add_argument("--rows", type=Path, help="folder that keeps what was measured; a run that is cut off goes on")
    arguments = parser.parse_args()
    if len(arguments.pair) < 3 or any(len(pair) not in (2, 3) for pair in arguments.pair):
        parser.error("expected three pairs or more, BUNDLE COHORT or BUNDLE COHORT CASES each")
    pairs = [
        (Path(pair[0]), Path(pair[1]), int(pair[2]) if len(pair) == 3 else arguments.cases) for pair in arguments.pair
    ]
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    models, reached, described = {}, {}, []
    for name, looks in ((PLAIN, 0), (AUGMENTED, arguments.tta)):
        groups = []
        for bundle, folder, cases in pairs:
            kept = arguments.rows and arguments.rows / f"{bundle.name}_{folder.name}_{name}.json"
            if kept and kept.is_file():
                rows = json.loads(kept.read_text(encoding="utf-8"))
            else:
                rows = measure(bundle, folder, looks, cases, arguments.seed)
                if kept:
                    write_json(rows, kept)
            filled = [row for row in rows if row["voxels"]]
            print(f"{name} {bundle.name}: {len(rows)} masks, {len(filled)} not empty", flush=True)
            if filled:
                groups.append(filled)
            if name == PLAIN:
                card = read_card(bundle)
                described.append(
                    {
                        "cohort": read_cohort(folder).name,
                        "bundle": bundle.name,
                        "method": card["method"],
                        "k": len(card["support"]),
                        "seed": card["seed"],
                        "iterations": card["iterations"],
                        "masks": len(rows),
                        "empty": len(rows) - len(filled),
                        "mean_dice": round(float(np.mean([row["dice"] for row in rows])), 3),
                    }
                )
        features = FEATURES[name]
        models[name] = _fit(groups, features, arguments.ridge)
        reached[name] = agreement(groups, cross_validated(groups, features, arguments.ridge))
        soft = agreement(groups, [np.array([row["soft_dice"] for row in group]) for group in groups])
        reached[f"{name}, soft Dice alone and uncalibrated"] = soft
        print(name, reached[name], "soft Dice alone", soft, flush=True)
    provenance = {
        "date": date.today().isoformat(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "split": SPLIT,
        "ridge": arguments.ridge,
        "seed": arguments.seed,
        "tta": arguments.tta,
        "cross_validation": "one bundle left out",
        "reached": reached,
        "pairs": described,
    }
    write_json(PredictedDice(models, provenance).to_json(), arguments.output)


if __name__ == "__main__":
    main()
