"""The report: one HTML page that needs nothing but itself."""

import base64
import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medfm3d.evaluation.evaluation import Evaluation
from medfm3d.evaluation.html_file import write_page
from medfm3d.evaluation.overlays import overlay_png
from medfm3d.evaluation.pairing import list_cases, list_predictions
from medfm3d.evaluation.plots import plot_metrics, plot_predicted_dice, plot_predicted_volumes, plot_volumes
from medfm3d.evaluation.predicted_quality import compare_prediction, rank_cases
from medfm3d.evaluation.summary import METRICS
from medfm3d.evaluation.viewer import ViewerCase, embed_cases
from medfm3d.evaluation.viewer.page import page_environment, viewer_parts
from medfm3d.volumes import VolumeError, read_label, read_volume
from medfm3d.volumes.palette import organ_colours

DIGITS = {"dice": 3, "hd95_mm": 2, "surface_dice": 3, "volume_error_ml": 2}
VIEWER_MB = 16.0  # of scans and masks within a page: tens of cases, and still quick to open
PACKAGES = ("medfm3d", "torch", "monai", "numpy", "scipy", "matplotlib")


def write_report(
    output: str | Path,
    *,
    evaluation: Evaluation | None,
    predictions: str | Path,
    images: str | Path,
    labels: str | Path | Mapping[str, Path] | None,
    organs: Mapping[str, int],
    remarks: Sequence[Mapping[str, Any]] | None,
    title: str,
    changes: Sequence[Mapping[str, Any]] | None = None,
    log_priors: Sequence[Mapping[str, Any]] | None = None,
    quality: Sequence[Mapping[str, Any]] = (),
    provenance: Mapping[str, Any] | None = None,
    viewer_mb: float = VIEWER_MB,
) -> Path:
    """Write a report on a folder of masks as one HTML file.

    With an evaluation it shows scores, and pictures of the best, median and worst case by mean Dice. Without one it
    shows volumes, and pictures of the cases with the smallest, median and largest organs.

    Args:
        output: the HTML file.
        evaluation: scores of the masks, or None where there are no labels.
        predictions: folder of masks.
        images: folder of scans, named as the masks.
        labels: folder of the label maps that the evaluation is of, or the label map of each case; needed with one.
        organs: name and id of each organ.
        remarks: what priors find surprising: case, organ, prior, text, z and p_value each; None if no prior was asked.
        title: heading of the page.
        changes: pieces that priors took away from the masks: case, organ, voxels, volume_ml and centre_mm each; None if
            priors changed nothing because they were not allowed to.
        log_priors: what priors turned by what they added to logits: case, prior, organ, gained and lost (voxels of the
            network's grid) and gained_ml and lost_ml each; None if they added nothing.
        quality: what was foretold of the masks: case and predicted_dice by organ each, as `list_quality` gives.
        provenance: where the masks come from, shown as it is.
        viewer_mb: megabytes of scans and masks that the page may hold for its viewer, the pictured cases first; 0 for a
            page without viewer and without any script.

    Raises:
        VolumeError: if a pictured case has no image, or a file is unusable or on another grid than its mask.
        FileNotFoundError: if medfm3d was built without NiiVue and a viewer is asked for.
        ValueError: if only one of evaluation and labels is given.
    """
    if (evaluation is None) != (labels is None):
        raise ValueError("a report on scores takes both evaluation and labels, one on masks alone takes neither")
    masks = list_predictions(predictions)
    context: dict[str, Any] = {
        "title": title,
        "colours": organ_colours(list(organs)),
        "remarks": remarks,
        "changes": changes,
        "log_priors": log_priors,
        "evaluation": evaluation,
        "metrics": METRICS,
        "digits": DIGITS,
    }
    if evaluation is None:
        volumes_ml = {case: _volumes_ml(path, organs) for case, path in masks.items()}
        totals = {case: sum(volumes.values()) for case, volumes in volumes_ml.items()}
        chosen = pick_three(totals, ("smallest", "median", "largest"))
        context |= {
            "cases": sorted(masks, key=totals.__getitem__),
            "by_rank": sorted(masks, key=totals.__getitem__),
            "volumes_ml": volumes_ml,
            "plots": [("Volume of each organ", _inline(plot_predicted_volumes(volumes_ml, list(organs))))],
        }
        context["notes"] = {case: f"{totals[case]:.1f} mL in all" for case in chosen}
    else:
        dice = {case: value for case, value in evaluation.case_dice().items() if value is not None}
        chosen = pick_three(dice, ("worst", "median", "best"))
        context |= {
            "cases": evaluation.cases,
            "by_rank": [*sorted(dice, key=dice.__getitem__), *(case for case in evaluation.cases if case not in dice)],
            "summary": evaluation.summary(),
            "scores": sorted(evaluation.scores, key=lambda score: 2.0 if score.dice is None else score.dice),
            "plots": [
                (
                    "Scores: a dot per case, the mean as a diamond with its 95 % interval",
                    _inline(plot_metrics(evaluation)),
                ),
                ("Volumes", _inline(plot_volumes(evaluation))),
            ],
        }
        context["notes"] = {case: f"mean Dice {dice[case]:.3f}" for case in chosen}
    ranked = rank_cases(quality, list(masks), list(organs), evaluation)
    context |= {"ranked": ranked, "agreement": compare_prediction(ranked)}
    if context["agreement"].n:
        context["plots"].append(("Predicted and true Dice", _inline(plot_predicted_dice(ranked, list(organs)))))
    label_paths = labels if labels is None or isinstance(labels, Mapping) else list_cases(labels)
    scans = list_cases(images)
    context["pictures"] = _pictures(chosen, masks, scans, label_paths, organs)
    ordered = list(dict.fromkeys([*chosen, *context["by_rank"]]))
    context |= _viewer(ordered, masks, scans, organs, viewer_mb)
    context["view_command"] = _view_command(predictions, images, organs)
    outlined = sorted({str(path.parent) for path in (label_paths or {}).values()})
    context["made_from"] = _made_from(predictions, images, ", ".join(outlined))
    context["method_reason"] = provenance and provenance.get("method_reason")
    environment = page_environment(number=_number, interval=_interval, p_value=_p_value)
    context["provenance"] = provenance and json.dumps(provenance, indent=2, default=str, ensure_ascii=False)
    return write_page(Path(output), environment.get_template("report.html").render(context))


def pick_three(values: Mapping[str, float], names: tuple[str, str, str]) -> dict[str, str]:
    """Return the cases with the least, the middle and the greatest value, and what each is called.

    Of an even number the lower middle is taken. Where there are fewer than three cases, one is several of these.
    """
    if not values:
        return {}
    ranked = sorted(values, key=values.__getitem__)
    picked: dict[str, str] = {}
    for case, name in zip((ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1]), names, strict=True):
        picked[case] = f"{picked[case]} and {name}" if case in picked else name
    return picked


def _pictures(
    chosen: Mapping[str, str],
    masks: Mapping[str, Path],
    images: Mapping[str, Path],
    labels: Mapping[str, Path] | None,
    organs: Mapping[str, int],
) -> list[dict[str, str]]:
    pictures = []
    for case, name in chosen.items():
        if case not in images:
            raise VolumeError(f"{masks[case]}: no scan of that name in the folder of images; add it")
        label = None if labels is None else read_label(labels[case])
        png = overlay_png(read_volume(images[case]), read_label(masks[case]), label, organs)
        pictures.append({"case": case, "name": name, "png": base64.b64encode(png).decode("ascii")})
    return pictures


def _viewer(
    ordered: Sequence[str],
    masks: Mapping[str, Path],
    scans: Mapping[str, Path],
    organs: Mapping[str, int],
    most_mb: float,
) -> dict[str, Any]:
    """What the template needs of the viewer; nothing is read where there shall be none."""
    if not most_mb:
        return {"embedded": {}, "left_out": [], "parts": None}
    found = [ViewerCase(case, scans[case], masks[case]) for case in ordered if case in scans]
    embedded = embed_cases(found, organs, most_mb)
    numbers = {one["name"]: number for number, one in enumerate(embedded.cases)}
    left_out = [case for case in ordered if case not in numbers]
    return {"embedded": numbers, "left_out": left_out, "parts": viewer_parts(embedded.cases) if numbers else None}


def _view_command(predictions: str | Path, images: str | Path, organs: Mapping[str, int]) -> str:
    named = ",".join(f"{organ}={number}" for organ, number in organs.items())
    return shlex.join(["medfm3d", "view", "--images", str(images), "--masks", str(predictions), "--organs", named])


def _volumes_ml(path: Path, organs: Mapping[str, int]) -> dict[str, float]:
    mask = read_label(path)
    return {organ: int((mask.array == number).sum()) * mask.voxel_volume_ml for organ, number in organs.items()}


def _made_from(predictions: str | Path, images: str | Path, labels: str) -> dict[str, str]:
    folders = {"Masks": predictions, "Scans": images, "Label maps": labels}
    return {
        "Written": datetime.now().astimezone().isoformat(timespec="minutes"),
        **{name: str(folder) for name, folder in folders.items() if folder},
        "Software": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
        ),
    }


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _p_value(value: float | None) -> str:
    return "< 0.0001" if value is not None and value < 0.0001 else _number(value, 4)


def _interval(limits: tuple[float, float] | None, digits: int) -> str:
    return "no interval" if limits is None else f"{limits[0]:.{digits}f} to {limits[1]:.{digits}f}"


def _inline(svg: str) -> Markup:
    """Mark an SVG that Matplotlib wrote, which escapes the texts in it, as fit for the page."""
    return Markup(svg)
