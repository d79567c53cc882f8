"""Pictures of a case: scan, predicted organs and reference outlines in three planes."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from medfm3d.volumes import Volume, check_same_grid, detect_modality, reorient
from medfm3d.volumes.palette import organ_colours

CONTEXT_MM = 25.0  # shown around the organs
HEIGHT_IN, DPI = 3.0, 110
FILL_ALPHA = 0.45
CT_WINDOW_HU = (-160.0, 240.0)  # abdomen and soft tissue


@dataclass(frozen=True)
class Plane:
    """One anatomical plane, and how radiology shows it (the viewer stands at the patient's feet, or faces them).

    `axis` is the axis of an RAS volume that a slice lies across; `letters` stand left, right, top and bottom.
    """

    name: str
    axis: int
    letters: tuple[str, str, str, str]

    def slice(self, array: np.ndarray, index: int) -> np.ndarray:
        """Return one slice of an RAS array, as rows from top to bottom and columns from left to right."""
        rows_by_columns = np.take(array, index, axis=self.axis).T[::-1]  # upwards: anterior or superior
        return rows_by_columns[:, ::-1]  # leftwards: the patient's right, or anterior

    def pixel_mm(self, spacing_mm: Sequence[float]) -> tuple[float, float]:
        """Return the height and width of a slice's pixel."""
        across, up = (size for axis, size in enumerate(spacing_mm) if axis != self.axis)
        return up, across


PLANES = (
    Plane("axial", 2, ("R", "L", "A", "P")),
    Plane("coronal", 1, ("R", "L", "S", "I")),
    Plane("sagittal", 0, ("A", "P", "S", "I")),
)


def overlay_png(image: Volume, prediction: Volume, label: Volume | None, organs: Mapping[str, int]) -> bytes:
    """Return a PNG of a case in three planes through its organs, nothing resampled.

    The prediction is filled, the reference outlined, each organ in its colour. Planes lie where most of the organs
    shows; an organ that neither has is passed over, and a case without any is shown at its middle.

    Raises:
        VolumeError: if the grids differ.
    """
    check_same_grid(image, prediction)
    if label is not None:
        check_same_grid(image, label)
    masks = [reorient(mask).array for mask in (prediction, label) if mask is not None]
    image = reorient(image)
    masks = [np.where(np.isin(mask, list(organs.values())), mask, 0) for mask in masks]
    box = _box(np.logical_or.reduce([mask > 0 for mask in masks]), image.spacing_mm)
    scan, masks = image.array[box], [mask[box] for mask in masks]
    centre = _centre(masks, list(organs.values()))
    window = CT_WINDOW_HU if detect_modality(image.array) == "CT" else tuple(np.percentile(scan, (1, 99)))

    sizes_mm = np.array(scan.shape) * image.spacing_mm
    widths = [sizes_mm[0] / sizes_mm[1], sizes_mm[0] / sizes_mm[2], sizes_mm[1] / sizes_mm[2]]  # at equal height
    figure = Figure(figsize=(HEIGHT_IN * sum(widths), HEIGHT_IN), dpi=DPI, facecolor="black")
    panels = figure.subplots(1, 3, width_ratios=widths, gridspec_kw={"wspace": 0.01}, squeeze=False)[0]
    figure.subplots_adjust(0, 0, 1, 1)
    for axes, plane in zip(panels, PLANES, strict=True):
        cuts = [plane.slice(array, centre[plane.axis]) for array in (scan, *masks)]
        draw_plane(axes, plane, cuts, image.spacing_mm, organs, window)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def draw_plane(
    axes: Axes,
    plane: Plane,
    cuts: Sequence[np.ndarray],
    spacing_mm: Sequence[float],
    organs: Mapping[str, int],
    window: tuple[float, float],
) -> None:
    """Draw the cuts of scan, prediction and, if there is a third, reference, true to size."""
    scan, predicted, *reference = cuts
    rows, columns = scan.shape
    height_mm, width_mm = plane.pixel_mm(spacing_mm)
    extent = (0, columns * width_mm, rows * height_mm, 0)
    axes.imshow(scan, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="nearest")
    x = (np.arange(-1, columns + 1) + 0.5) * width_mm
    y = (np.arange(-1, rows + 1) + 0.5) * height_mm
    for organ, colour in organ_colours(list(organs)).items():
        fill = np.zeros((rows, columns, 4))
        fill[predicted == organs[organ]] = to_rgba(colour, FILL_ALPHA)
        axes.imshow(fill, extent=extent, interpolation="nearest")
        for mask in reference:
            outlined = np.pad(mask == organs[organ], 1)  # so that an outline closes at the picture's edge
            if outlined.any():
                axes.contour(x, y, outlined, levels=[0.5], colors="black", linewidths=2.6)
                axes.contour(x, y, outlined, levels=[0.5], colors=colour, linewidths=1.4)
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
    axes.set_axis_off()
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"), (0.5, 0.98, "center", "top"))
    for letter, (at_x, at_y, across, up) in zip(plane.letters, (*places, (0.5, 0.02, "center", "bottom")), strict=True):
        text = axes.text(at_x, at_y, letter, color="white", ha=across, va=up, transform=axes.transAxes, fontsize=11)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="black")])


def _box(organs: np.ndarray, spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    """Box of the organs and their surroundings; everything where there is no organ."""
    if not organs.any():
        return tuple(slice(0, size) for size in organs.shape)
    corners = np.argwhere(organs)
    margin = np.ceil(CONTEXT_MM / np.array(spacing_mm)).astype(int)
    low, high = np.maximum(corners.min(axis=0) - margin, 0), corners.max(axis=0) + margin + 1
    return tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))


def _centre(masks: Sequence[np.ndarray], ids: Sequence[int]) -> tuple[int, ...]:
    """Slice along each axis that shows most of the organs, each measured by its own largest section.

    Not the centre of mass: that of a paired organ lies between its halves.
    """
    centre = []
    for axis, size in enumerate(masks[0].shape):
        shown = np.zeros(size)
        for number in ids:
            section = sum((mask == number).sum(axis=tuple(set(range(3)) - {axis})) for mask in masks)
            shown += section / max(section.max(), 1)
        best = np.flatnonzero(shown >= shown.max() - 1e-9)
        centre.append(int(best[len(best) // 2]))
    return tuple(centre)
