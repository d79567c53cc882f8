"""Scores of one case: against a calculation by hand and against DeepMind's surface-distance."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medfm3d.evaluation import score_case
from medfm3d.volumes import Volume, VolumeError, find_volumes, read_label

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import surface_distance

SURFACE_TOLERANCE = 1e-6  # MONAI works in float32


def box(shape, start, size, spacing_mm=(1, 1, 1), number=1):
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(low, low + side) for low, side in zip(start, size, strict=True))] = number
    return Volume(array, np.diag([*spacing_mm, 1]))


def blob(seed, spacing_mm):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(24, 20, 16)), 3)
    return Volume((noise > np.quantile(noise, 0.8)).astype(np.uint8), np.diag([*spacing_mm, 1]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def reference_surface_dice(prediction, label, number, tolerance_mm):
    distances = surface_distance.compute_surface_distances(
        label.array == number, prediction.array == number, label.spacing_mm
    )
    return surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm)


def test_shifted_box_agrees_with_a_calculation_by_hand():
    label = box((30, 30, 30), (8, 8, 8), (10, 10, 10), spacing_mm=(2, 1, 1))
    prediction = box((30, 30, 30), (11, 8, 8), (10, 10, 10), spacing_mm=(2, 1, 1))
    (score,) = score_case(prediction, label, {"organ": 1}, tolerance_mm=2.0, case="a")
    assert score.dice == pytest.approx(0.7)  # 7 of 10 layers overlap
    # A sixth of the surface voxels and more lies on the face that is off by 3 voxels of 2 mm.
    assert score.hd95_mm == pytest.approx(6.0)
    assert (score.volume_ml, score.reference_volume_ml, score.volume_error_ml) == pytest.approx((2.0, 2.0, 0.0))
    assert (score.case, score.organ) == ("a", "organ")


def test_surface_dice_of_a_thicker_slab_is_the_share_of_its_area():
    # Faces across the first axis are 40 x 40 mm^2 and nearly all the area. One agrees, one is 3 mm off.
    label, prediction = (box((12, 44, 44), (3, 2, 2), (side, 40, 40)) for side in (2, 5))
    strict = score_case(prediction, label, {"organ": 1}, tolerance_mm=1.0)[0].surface_dice
    lenient = score_case(prediction, label, {"organ": 1}, tolerance_mm=3.0)[0].surface_dice
    by_hand = 2 * 40 * 40 / (4 * 40 * 40)
    assert strict == pytest.approx(by_hand, abs=0.1)
    assert lenient == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.8, 0.8, 3.0), (4.64, 4.64, 2.5)])
@pytest.mark.parametrize("tolerance_mm", [0.5, 1.1, 2.0, 5.0])
def test_surface_dice_agrees_with_surface_distance_on_blobs(spacing_mm, tolerance_mm):
    prediction, label = blob(1, spacing_mm), blob(2, spacing_mm)  # both touch the edge of the volume
    (score,) = score_case(prediction, label, {"organ": 1}, tolerance_mm=tolerance_mm)
    assert 0 < score.surface_dice < 1
    expected = reference_surface_dice(prediction, label, 1, tolerance_mm)
    assert score.surface_dice == pytest.approx(expected, abs=SURFACE_TOLERANCE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_surface_dice_agrees_with_surface_distance_on_real_outlines(real_data):
    for path in find_volumes(real_data / "hippocampus" / "labelsTr")[:5]:
        label = read_label(path)
        prediction = Volume(np.roll(label.array, 1, axis=0), label.affine)
        for number in (1, 2):
            (score,) = score_case(prediction, label, {"organ": number}, tolerance_mm=0.5, case=path.name)
            expected = reference_surface_dice(prediction, label, number, 0.5)
            assert score.surface_dice == pytest.approx(expected, abs=SURFACE_TOLERANCE)
            assert score.hd95_mm == pytest.approx(1.0, abs=0.5)


def test_anisotropic_spacing_counts_along_its_axis():
    for axis, shift_mm in enumerate((1.0, 2.0, 5.0)):
        start = [6, 6, 6]
        start[axis] += 1
        label = box((20, 20, 20), (6, 6, 6), (6, 6, 6), spacing_mm=(1, 2, 5))
        prediction = box((20, 20, 20), start, (6, 6, 6), spacing_mm=(1, 2, 5))
        assert score_case(prediction, label, {"organ": 1})[0].hd95_mm == pytest.approx(shift_mm)


def test_scores_do_not_depend_on_the_stored_orientation():
    prediction, label = blob(1, (1, 1, 3)), blob(2, (1, 1, 3))
    turned = [
        Volume(volume.array.transpose(2, 0, 1)[::-1], volume.affine[:, [2, 0, 1, 3]] @ np.diag([-1, 1, 1, 1]))
        for volume in (prediction, label)
    ]
    (here,), (there,) = score_case(prediction, label, {"organ": 1}), score_case(*turned, {"organ": 1})
    for field in ("dice", "hd95_mm", "surface_dice", "volume_ml"):
        assert getattr(here, field) == pytest.approx(getattr(there, field), rel=1e-5)


def test_cropping_changes_nothing():
    small = [box((14, 14, 14), (2 + off, 2, 2), (8, 9, 10)) for off in (0, 2)]
    large = [box((60, 50, 40), (30 + off, 20, 10), (8, 9, 10)) for off in (0, 2)]
    assert score_case(*small, {"organ": 1}, case="a") == score_case(*large, {"organ": 1}, case="a")


def test_absent_organs():
    empty, full = box((8, 8, 8), (0, 0, 0), (0, 0, 0)), box((8, 8, 8), (2, 2, 2), (3, 3, 3))
    (both,) = score_case(empty, empty, {"organ": 1})
    assert both.absent and not both.one_sided
    assert (both.dice, both.hd95_mm, both.surface_dice, both.volume_ml) == (None, None, None, 0)
    for prediction, label, error in ((full, empty, 0.027), (empty, full, -0.027)):
        (one,) = score_case(prediction, label, {"organ": 1})
        assert one.one_sided and not one.absent
        assert (one.dice, one.hd95_mm, one.surface_dice) == (0, None, 0)
        assert one.volume_error_ml == pytest.approx(error)


def test_identical_masks_score_perfectly():
    mask = blob(3, (1, 1, 2))
    (score,) = score_case(mask, mask, {"organ": 1}, tolerance_mm=0)
    assert (score.dice, score.hd95_mm, score.surface_dice, score.volume_error_ml) == (1, 0, 1, 0)


def test_bad_input_is_refused():
    mask = blob(3, (1, 1, 2))
    moved = Volume(mask.array, np.array(mask.affine) + np.eye(4, k=3) * 5)
    with pytest.raises(VolumeError, match="mm from its image"):
        score_case(moved, mask, {"organ": 1})
    with pytest.raises(ValueError, match="tolerance_mm"):
        score_case(mask, mask, {"organ": 1}, tolerance_mm=-1)


def test_no_warning_reaches_the_user():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score_case(blob(1, (1, 1, 1)), blob(2, (1, 1, 1)), {"organ": 1, "other": 2})
