"""Pictures: what lies where, and how large."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from medfm3d.evaluation.overlays import PLANES, draw_plane, overlay_png
from medfm3d.volumes import Volume, VolumeError
from medfm3d.volumes.palette import COLOURS

AXIAL, CORONAL, SAGITTAL = PLANES
SPACING = (1.0, 2.0, 4.0)


def scan_and_mask(corner, orientation=(1, 1, 1)):
    """A scan of noise, and a mask at one corner: per axis, "low" is left, posterior, inferior in RAS."""
    shape = (40, 20, 10)
    mask = np.zeros(shape, np.uint8)
    where = (
        slice(1, 4) if end == "low" else slice(size - 4, size - 1) for end, size in zip(corner, shape, strict=True)
    )
    mask[tuple(where)] = 1
    scan = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    affine = np.diag([*SPACING, 1.0])
    for axis, sign in enumerate(orientation):
        if sign < 0:  # stored the other way round, the same in the patient
            scan, mask = np.flip(scan, axis), np.flip(mask, axis)
            affine[axis, 3] += affine[axis, axis] * (shape[axis] - 1)
            affine[axis, axis] *= -1
    return Volume(scan, affine), Volume(mask, affine)


def pixels_of(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def drawn_plane(plane, mask):
    """Pixels, (rows, columns, 3), of one plane through the mask, drawn alone."""
    index = int(np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {plane.axis})))[0])
    cut = plane.slice(mask, index)
    height_mm, width_mm = plane.pixel_mm(SPACING)
    figure = Figure(figsize=(4, 4 * cut.shape[0] * height_mm / (cut.shape[1] * width_mm)), facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    draw_plane(axes, plane, [np.zeros(cut.shape), cut], SPACING, {"organ": 1}, (0, 1))
    shown = {text.get_text(): text.get_position() for text in axes.texts}
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return pixels_of(buffer.getvalue()), shown


def coloured(pixels):
    """Where a pixel is bluish, as the first organ's colour is."""
    return pixels[..., 2] - pixels[..., 0] > 30


def centre_of(where):
    rows, columns = np.nonzero(where)
    return rows.mean() / where.shape[0], columns.mean() / where.shape[1]


@pytest.mark.parametrize(
    ("plane", "corner", "row", "column"),
    [
        (AXIAL, ("high", "high", "low"), "top", "left"),  # right and anterior
        (AXIAL, ("low", "low", "low"), "bottom", "right"),  # left and posterior
        (CORONAL, ("high", "low", "high"), "top", "left"),  # right and superior
        (SAGITTAL, ("low", "high", "low"), "bottom", "left"),  # anterior and inferior
    ],
)
def test_an_organ_lies_on_the_side_that_its_letter_names(plane, corner, row, column):
    _, mask = scan_and_mask(corner)
    pixels, letters = drawn_plane(plane, mask.array)
    down, along = centre_of(coloured(pixels))
    assert (down < 0.5) == (row == "top") and (along < 0.5) == (column == "left")
    left, right, top, bottom = plane.letters
    assert letters[left][0] < 0.5 < letters[right][0]
    assert letters[bottom][1] < 0.5 < letters[top][1]
    names = {"R": (0, "high"), "L": (0, "low"), "A": (1, "high"), "P": (1, "low"), "S": (2, "high"), "I": (2, "low")}
    for letter in (left if column == "left" else right, top if row == "top" else bottom):
        axis, end = names[letter]
        assert corner[axis] == end


def test_the_patients_right_is_on_the_left_of_the_whole_picture():
    first_column = {}
    for side, corner in (("right", ("high", "low", "low")), ("left", ("low", "low", "low"))):
        pixels = pixels_of(overlay_png(*scan_and_mask(corner, (-1, -1, 1)), None, {"organ": 1}))
        first_column[side] = np.flatnonzero(coloured(pixels).any(axis=0))[0] / pixels.shape[1]
    assert first_column["right"] < 0.1 and first_column["left"] > 0.2  # of the axial plane, which comes first


@pytest.mark.parametrize("orientation", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_the_stored_orientation_does_not_move_the_picture(orientation):
    corner = ("high", "high", "high")
    assert overlay_png(*scan_and_mask(corner, orientation), None, {"organ": 1}) == overlay_png(
        *scan_and_mask(corner), None, {"organ": 1}
    )


def test_pixels_are_true_to_size():
    _, mask = scan_and_mask(("low", "low", "low"))  # 3 x 6 x 12 mm
    for plane, height_mm, width_mm in ((AXIAL, 6, 3), (CORONAL, 12, 3), (SAGITTAL, 12, 6)):
        rows, columns = np.nonzero(coloured(drawn_plane(plane, mask.array)[0]))
        assert np.ptp(rows) / np.ptp(columns) == pytest.approx(height_mm / width_mm, rel=0.15)


def test_prediction_is_filled_and_reference_outlined():
    scan, prediction = scan_and_mask(("low", "low", "low"))
    _, label = scan_and_mask(("high", "low", "low"))
    with_label = pixels_of(overlay_png(scan, prediction, label, {"organ": 1}))
    blue = [int(COLOURS[0][start : start + 2], 16) for start in (1, 3, 5)]
    line = (np.abs(with_label - blue) < 12).all(axis=-1)
    without = pixels_of(overlay_png(scan, prediction, None, {"organ": 1}))
    fill_only = (np.abs(without - blue) < 12).all(axis=-1)
    assert line.sum() > 50 and fill_only.sum() == 0


def test_paired_organs_are_cut_through_one_of_them():
    scan, left = scan_and_mask(("low", "low", "low"))
    _, right = scan_and_mask(("high", "low", "low"))
    png = overlay_png(scan, Volume(left.array + right.array, left.affine), None, {"kidneys": 1})
    pixels = pixels_of(png)
    assert coloured(pixels[:, -pixels.shape[1] // 3 :]).any()  # the sagittal plane, last, does not miss both


def test_a_case_without_organs_is_still_drawn():
    scan, mask = scan_and_mask(("low", "low", "low"))
    png = overlay_png(scan, Volume(np.zeros_like(mask.array), mask.affine), None, {"organ": 1})
    assert not coloured(pixels_of(png)).any()


def test_another_grid_is_refused():
    scan, mask = scan_and_mask(("low", "low", "low"))
    with pytest.raises(VolumeError):
        overlay_png(scan, Volume(mask.array[:-1], mask.affine), None, {"organ": 1})
