"""What each anatomical prior gives: an adapted bundle over labelled cases, with none of them, each alone, and all.

    python tools/ablate_priors.py --bundle BUNDLE --data DIR --cohort openkbp_headneck --output OUT

Rows are: `none`; each prior as log-prior on logits; all of them; the removal of pieces (`clean-up`); the boxed form;
and everything together. Cases of the bundle's support set are left out, and of a cohort with fixed splits only those of
"development" are read: what is chosen by this table must not have been chosen on the test cases.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medfm3d.cli.segment import require_all, run_segmentation
from medfm3d.cohorts import Case, read_cohort
from medfm3d.evaluation import evaluate_cases
from medfm3d.inference import read_card, read_plan, read_priors
from medfm3d.volumes import write_json
from medfm3d.volumes.paths import mask_path


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run every row, print the table and write it; returns what was written."""
    options = parse_arguments(arguments)
    organs = read_plan(options.bundle).organs
    cases = choose_cases(options, organs)
    rows = {}
    for name, settings in settings_of(list(read_priors(options.bundle).priors), options.weight).items():
        masks = options.output / name.replace(" ", "_")
        segmented = run_segmentation(
            options.bundle,
            options.data,
            masks,
            inputs=[case.image for case in cases],
            device=options.device,
            **settings,
        )
        require_all(segmented)
        rows[name] = {**scores(masks, cases, organs), "case_s": segmented["case_s"], "turned_voxels": turned(segmented)}
        print(as_table(rows, list(organs)).splitlines()[-1], flush=True)
    result = {
        "bundle": str(options.bundle),
        "support": read_card(options.bundle)["support"],
        "cases": [case.name for case in cases],
        "weight": options.weight,
        "rows": rows,
    }
    write_json(result, options.output / "ablation.json")
    table = as_table(rows, list(organs))
    (options.output / "ablation.md").write_text(table, encoding="utf-8")
    print(f"\n{len(cases)} cases\n\n{table}")
    return result


def settings_of(priors: Sequence[str], weight: float) -> dict[str, dict[str, Any]]:
    """Return the arguments of `run_segmentation` of each row."""

    def on_logits(names: Sequence[str]) -> dict[str, Any]:
        return {"logit_priors": list(names), "config": {"logit_prior_weight": weight}}

    rows: dict[str, dict[str, Any]] = {"none": {}, **{name: on_logits([name]) for name in priors}}
    rows["all on logits"] = on_logits(priors)
    if "components" in priors:
        rows["clean-up"] = {"apply_priors": True}
    if "location" in priors:
        rows["boxed"] = {}
        rows["everything"] = {**on_logits(priors), "apply_priors": "components" in priors}
    return {name: {"boxed": name in ("boxed", "everything"), **settings} for name, settings in rows.items()}


def choose_cases(options: argparse.Namespace, organs: Mapping[str, int]) -> list[Case]:
    """Return the labelled cases that the bundle did not learn from."""
    cohort = read_cohort(options.data, options.cohort)
    if options.cohort is not None:
        cohort = cohort.split("development")
    support = set(read_card(options.bundle)["support"])
    cases = [case for case in cohort if case.name not in support and any(case.outlines(organ) for organ in organs)]
    if not cases:
        raise SystemExit(f"{options.data}: no labelled case is left beside the support set; name another cohort")
    return cases[: options.limit]


def scores(masks: Path, cases: Sequence[Case], organs: Mapping[str, int]) -> dict[str, Any]:
    """Return mean Dice and HD95 over organs, and of each, of the cases' masks in a folder."""
    files = [mask_path(masks, case.image) for case in cases]
    evaluation = evaluate_cases(cases, files, organs, progress=False)
    summary = evaluation.summary()
    dice = {organ: one.metrics["dice"].mean for organ, one in summary.items()}
    hd95 = {organ: one.metrics["hd95_mm"].mean for organ, one in summary.items()}
    distances = [value for value in hd95.values() if value is not None]
    return {
        "dice": evaluation.mean_dice,
        "hd95_mm": float(np.mean(distances)) if distances else None,
        "missed": sum(one.one_sided for one in summary.values()),
        "organs": {organ: {"dice": dice[organ], "hd95_mm": hd95[organ]} for organ in summary},
    }


def turned(segmented: Mapping[str, Any]) -> int:
    """Return how many voxels priors turned, on the grid of the network or of the mask."""
    on_logits = sum(change["gained"] + change["lost"] for change in segmented["log_priors"])
    return on_logits + sum(change["voxels"] for change in segmented["changes"])


def as_table(rows: Mapping[str, Mapping[str, Any]], organs: Sequence[str]) -> str:
    """Return the rows as a Markdown table; `missed` counts organs that only mask or label has."""
    heads = [
        "priors",
        "Dice",
        "HD95 (mm)",
        "missed",
        "voxels turned",
        "s a case",
        *(f"Dice {organ}" for organ in organs),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, row in rows.items():
        cells = [
            name,
            _number(row["dice"], 3),
            _number(row["hd95_mm"], 2),
            str(row["missed"]),
            str(row["turned_voxels"]),
        ]
        cells += [_number(row["case_s"], 2), *(_number(row["organs"][organ]["dice"], 3) for organ in organs)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="an adapted bundle")
    parser.add_argument("--data", type=Path, required=True, help="cohort in Decathlon layout")
    parser.add_argument("--cohort", help="name of its manifest, whose development split is read; without, all cases")
    parser.add_argument("--output", type=Path, required=True, help="folder for masks and table")
    parser.add_argument("--limit", type=int, help="at most so many cases")
    parser.add_argument("--weight", type=float, default=1.0, help="of log-priors on logits")
    parser.add_argument("--device", default="auto")
    return parser.parse_args(arguments)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
