"""How peak memory grows with voxels and classes: a fit, tables and a picture of measurements."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

Row = Mapping[str, Any]
BYTES = 4  # of a score in single precision


def scores_gb(shape: Sequence[int], classes: int) -> float:
    """Return what the scores of all classes of a volume take in single precision, GiB."""
    return float(np.prod(shape)) * classes * BYTES / 2**30


def fit_memory(rows: Sequence[Row]) -> tuple[np.ndarray, float] | None:
    """Fit peak memory to a + b classes + (c + d classes) voxels, nothing negative, over what was measured.

    Returns:
        The four coefficients in GiB, voxels counted in 1e6, and the largest relative error; None of too few points.
    """
    done = [row for row in rows if row["status"] == "done"]
    if len(done) < 5:
        return None
    terms = np.array([_terms(row["shape"], row["classes"]) for row in done])
    peaks = np.array([row["peak_gb"] for row in done])
    # Relative errors are made small, or the largest volumes alone would decide.
    coefficients, _ = nnls(terms / peaks[:, None], np.ones(len(peaks)))
    return coefficients, float(np.abs(terms @ coefficients / peaks - 1).max())


def predict_memory(coefficients: np.ndarray, shape: Sequence[float], classes: float) -> float:
    """Return the peak memory in GiB by the coefficients of `fit_memory`."""
    return float(_terms(shape, classes) @ coefficients)


def as_table(rows: Sequence[Row]) -> str:
    """Return measurements as a Markdown table, with the share of MONAI's time and memory."""
    lines = [
        "| volume | classes | engine | windows | CPU s | s | peak GiB | agreement | time / MONAI | memory / MONAI |",
        "|" + " --- |" * 10,
    ]
    fit = fit_memory([row for row in rows if row["engine"] == "monai"])
    for row in sorted(rows, key=lambda row: (np.prod(row["shape"]), row["classes"])):
        sides = " x ".join(map(str, row["shape"]))
        start = f"| {sides} | {row['classes']} | {row['engine']} |"
        if row["status"] != "done":
            lines.append(f"{start} {row['status']} | | | | | | |")
            continue
        monai = next((one for one in rows if _is_monai_of(one, row)), None)
        ratios = ["-", "-"]
        if monai is not None:
            ratios = [f"{row[key] / monai[key]:.2f}" for key in ("cpu_s", "peak_gb")]
        elif fit is not None:
            expected = predict_memory(fit[0], row["shape"], row["classes"])
            share, of_scores = (row["peak_gb"] / whole for whole in (expected, scores_gb(row["shape"], row["classes"])))
            ratios[1] = f"{share:.2f} of {expected:.1f} by the fit, {of_scores:.2f} of its scores alone"
        agreement = "-" if row["agreement"] is None else f"{row['agreement']:.5f}"
        lines.append(
            f"{start} {row['windows']} | {row['cpu_s']:.1f} | {row['wall_s']:.1f} | {row['peak_gb']:.2f} | {agreement} "
            f"| {ratios[0]} | {ratios[1]} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw peak memory over voxels, a line for each number of classes, and over classes in the largest volume.

    Dashed lines are the fit of each engine that keeps the whole volume; ours is not linear in it and has none.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    done = [row for row in rows if row["status"] == "done"]
    engines = list(dict.fromkeys(row["engine"] for row in done))
    classes = sorted({row["classes"] for row in done})
    largest = max((row["shape"] for row in done), key=np.prod)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    over_voxels, over_classes = figure.subplots(1, 2)
    for number, name in enumerate(engines):
        own = [row for row in done if row["engine"] == name]
        fit = None if name.startswith("medfm3d") else fit_memory(own)
        for count, marker in zip(classes, "osD^v<>", strict=False):
            points = sorted((np.prod(row["shape"]) / 1e6, row["peak_gb"]) for row in own if row["classes"] == count)
            if points:
                label = f"{name}, {count} classes"
                over_voxels.plot(*zip(*points, strict=True), f"C{number}-{marker}", markersize=4, label=label)
            if points and fit:
                along = np.geomspace(points[0][0], np.prod(largest) / 1e6, 20)
                by_fit = [predict_memory(fit[0], (voxels, 1e6), count) for voxels in along]
                over_voxels.plot(along, by_fit, f"C{number}--", linewidth=0.8)
        points = sorted((row["classes"], row["peak_gb"]) for row in own if row["shape"] == largest)
        if points:
            over_classes.plot(*zip(*points, strict=True), f"C{number}-o", markersize=4, label=name)
        if fit:
            along = np.geomspace(classes[0], classes[-1], 20)
            by_fit = [predict_memory(fit[0], largest, count) for count in along]
            over_classes.plot(along, by_fit, f"C{number}--", linewidth=0.8, label=f"{name}, by the fit")
    sides = " x ".join(map(str, largest))
    over_voxels.set(xlabel="Voxels (millions)", ylabel="Peak memory (GiB)", xscale="log", yscale="log")
    over_classes.set(xlabel="Classes", ylabel="Peak memory (GiB)", title=sides, xscale="log", yscale="log")
    for axes in (over_voxels, over_classes):
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(linewidth=0.4)
        axes.legend(frameon=False, fontsize=6)
    figure.savefig(file, dpi=100)


def _terms(shape: Sequence[float], classes: float) -> np.ndarray:
    voxels = float(np.prod(shape)) / 1e6
    return np.array([1.0, classes, voxels, voxels * classes])


def _is_monai_of(one: Row, row: Row) -> bool:
    same = all(one[key] == row[key] for key in ("shape", "classes"))
    return same and one["engine"] == "monai" and one["status"] == "done"
