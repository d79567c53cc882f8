"""The outcome of a batch as a page for people: summary.html, beside summary.csv and summary.json."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from medfm3d.evaluation.html_file import write_page
from medfm3d.evaluation.viewer.assets import page_asset
from medfm3d.evaluation.viewer.page import page_environment
from medfm3d.inference import list_quality
from medfm3d.inference.batch_summary import JSON
from medfm3d.volumes.paths import dicom_labels_suffix

HTML = "summary.html"


def write_batch_page(output: str | Path, *, title: str, bundle: str | Path | None = None) -> Path:
    """Write summary.html beside a batch's summary.json: volumes, surprises, predicted Dice, seconds and errors by scan.

    The page loads nothing. Its table can be sorted and searched, and links to masks and scans by relative paths, so
    that it stays right where the folders move together. Of thousands of scans it shows some hundred at once.

    Args:
        output: folder of masks that holds summary.json, and the predicted Dice of each mask where it was foretold.
        title: heading of the page.
        bundle: that made the masks, for the command that shows them.

    Returns:
        The HTML file.

    Raises:
        OSError: if summary.json is not there, or the folder cannot be written to.
    """
    output, written = Path(output), None
    # Another shard of the batch may write summary.json meanwhile; so it is looked at once more.
    while (summary := (output / JSON).read_bytes()) != written:
        written = summary
        write_page(output / HTML, _page(json.loads(summary), output, title, bundle))
    return output / HTML


def _page(cases: Sequence[Mapping[str, Any]], output: Path, title: str, bundle: str | Path | None) -> str:
    predicted = {one["case"]: one["predicted_dice"] for one in list_quality(output)}
    organs = list(dict.fromkeys(organ for case in cases for organ in case["volumes_ml"]))
    rows = [_row(case, predicted.get(case["case"], {}), output) for case in cases]
    steps = list(dict.fromkeys(step for case in cases for step in case["seconds"]))
    context = {
        "title": title,
        "rows": rows,
        "organs": organs,
        "done": sum(case["mask"] is not None for case in cases),
        "failed": sum(case["error"] is not None for case in cases),
        "surprising": sum(bool(case["remarks"]) for case in cases),
        "seconds": {step: sum(case["seconds"].get(step, 0.0) for case in cases) for step in steps},
        "predicted": any(row["dice"] is not None for row in rows),
        "view_command": _view_command(cases, output, bundle),
        "script": Markup(page_asset("batch.js")),
    }
    environment = page_environment(ml=_ml, number=_number)
    return environment.get_template("batch.html").render(context)


def _row(case: Mapping[str, Any], predicted: Mapping[str, float | None], output: Path) -> dict[str, Any]:
    dice = {organ: value for organ, value in predicted.items() if value is not None}
    return {
        "case": case["case"],
        "scan": _link(case["scan"], output),
        "mask": case["mask"] and _link(case["mask"], output),
        "volumes_ml": case["volumes_ml"],
        "remarks": [remark["text"] for remark in case["remarks"]],
        "dice": sum(dice.values()) / len(dice) if dice else None,
        "dice_of": ", ".join(f"{organ} {value:.2f}" for organ, value in dice.items()),
        "seconds": sum(case["seconds"].values()),
        "seconds_of": ", ".join(f"{step} {seconds:.2f} s" for step, seconds in case["seconds"].items()),
        "error": case["error"],
    }


def _link(path: str, output: Path) -> str:
    """Address of a file as seen from the page, with what a name may hold and an address may not in its place."""
    return quote(os.fsencode(os.path.relpath(os.path.realpath(path), os.path.realpath(output))))


def _view_command(cases: Sequence[Mapping[str, Any]], output: Path, bundle: str | Path | None) -> str | None:
    """Return the command that shows all masks, or None where scans lie in several folders, or masks are DICOM."""
    folders = {str(Path(case["scan"]).parent) for case in cases if case["mask"]}
    if len(folders) != 1 or any(case["mask"] and dicom_labels_suffix(case["mask"]) for case in cases):
        return None
    named = [] if bundle is None else ["--bundle", str(bundle)]
    return shlex.join(["medfm3d", "view", "--images", *folders, "--masks", str(output), *named])


def _ml(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"
