"""Does it pay to outline the scans that the server offers first? Dice over number of labelled scans against chance.

For each seed the cohort's development split is cut at random into scans that may be labelled and scans that are scored.
Scans are then labelled one by one, as `most_helpful` of `medfm3d serve` offers them or at random; at some numbers of
labels a bundle is adapted in few steps and scored. What it predicts of scans without labels guides the next choices.

    python tools/simulate_active_learning.py --data hippocampus --manifest data_manifests/msd_hippocampus.json \
        --work WORK --json active_learning.json
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch

from medfm3d.cli.adapt import run_adaptation
from medfm3d.cli.segment import run_segmentation
from medfm3d.cohorts import Case, Cohort, read_cohort
from medfm3d.serving.next_scan import choose_next
from medfm3d.serving.scan_features import scan_features
from medfm3d.volumes import read_label, write_json

BEST, RANDOM = "best", "random"


def main() -> None:
    """Read the command line, simulate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the cohort, with dataset.json")
    parser.add_argument("--manifest", type=Path, required=True, help="its manifest, which has a development split")
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and masks; emptied as it goes")
    parser.add_argument("--json", type=Path, required=True, help="results; written after each seed")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 2, 3, 5, 8], help="numbers of labelled scans")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="of each adaptation")
    parser.add_argument("--scored", type=int, default=20, help="scans that are scored")
    parser.add_argument("--pool", type=int, default=50, help="scans that may be labelled")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohort = read_cohort(options.data, options.manifest).split("development")
    features = {case.name: scan_features(case.image) for case in cohort}
    rows: list[dict] = []
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(cohort))
        cases = [cohort.cases[index] for index in order]
        scored, pool = cases[: options.scored], cases[options.scored :][: options.pool]
        for strategy in (BEST, RANDOM):
            rows += simulate(cohort, pool, scored, features, strategy, seed, options)
            write_json({"options": vars(options), "rows": rows}, options.json, default=str)
    print(table(rows, options.labels))


def simulate(
    cohort: Cohort, pool: list[Case], scored: list[Case], features: dict, strategy: str, seed: int, options
) -> list[dict]:
    """Label scans of the pool one after the other; return the mean Dice at each number of labels."""
    stacked = np.stack([features[case.name] for case in pool])
    chance = [int(index) for index in np.random.default_rng([seed, 1]).permutation(len(pool))]
    labelled: list[int] = []
    predicted: np.ndarray | None = None
    rows = []
    for count in sorted(options.labels):
        wanted = count - len(labelled)
        labelled += (
            choose_next(stacked, labelled, predicted, wanted) if strategy == BEST else chance[len(labelled) : count]
        )
        bundle = _emptied(options.work / "bundle")
        names = [pool[index].name for index in labelled]
        run_adaptation(cohort, cohort.organs, bundle, names=names, iterations=options.steps, device="cpu", seed=seed)
        dice = score(bundle, scored, cohort.organs, options.work)
        rows.append({"seed": seed, "strategy": strategy, "labels": count, "dice": dice, "names": names})
        print(json.dumps(rows[-1]), flush=True)
        if strategy == BEST and count < max(options.labels):
            predicted = predict(bundle, pool, options.work)
    return rows


def score(bundle: Path, cases: list[Case], organs: dict[str, int], work: Path) -> float:
    """Return the mean Dice of a bundle over cases and organs."""
    masks = _emptied(work / "masks")
    run_segmentation(bundle, masks, masks, inputs=[case.image for case in cases], device="cpu")
    values = []
    for case in cases:
        truth, mask = read_label(case.label).array, read_label(masks / case.image.name).array
        for number in organs.values():
            both = np.count_nonzero((truth == number) & (mask == number))
            values.append(2 * both / max(1, np.count_nonzero(truth == number) + np.count_nonzero(mask == number)))
    return float(np.mean(values))


def predict(bundle: Path, cases: list[Case], work: Path) -> np.ndarray:
    """Return the predicted Dice of a bundle in each case, over organs."""
    masks = _emptied(work / "masks")
    result = run_segmentation(bundle, masks, masks, inputs=[case.image for case in cases], device="cpu")
    quality = {entry["case"]: float(np.mean(list(entry["predicted_dice"].values()))) for entry in result["quality"]}
    return np.array([quality[case.name] for case in cases])


def table(rows: list[dict], labels: list[int]) -> str:
    """Return means over seeds, the difference and its standard error, as Markdown."""
    lines = ["| labelled scans | best | random | difference | standard error | seeds |", "| --- " * 6 + "|"]
    for count in labels:
        of = {
            strategy: {
                row["seed"]: row["dice"] for row in rows if (row["strategy"], row["labels"]) == (strategy, count)
            }
            for strategy in (BEST, RANDOM)
        }
        seeds = sorted(set(of[BEST]) & set(of[RANDOM]))
        best, chance = (np.array([of[strategy][seed] for seed in seeds]) for strategy in (BEST, RANDOM))
        error = (best - chance).std(ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else float("nan")
        lines.append(
            f"| {count} | {best.mean():.3f} | {chance.mean():.3f} | {(best - chance).mean():+.3f} | {error:.3f} | "
            f"{len(seeds)} |"
        )
    return "\n".join(lines)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


if __name__ == "__main__":
    main()
