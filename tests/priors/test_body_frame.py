"""The body in a scan, and scans aligned with each other."""

import json

import numpy as np
import pytest

from medfm3d.cohorts import read_cohort
from medfm3d.priors import BodyFrame, align, find_body
from medfm3d.volumes import Volume, read_label, read_volume, reorient, resample


def centre_mm(label: Volume, number: int) -> np.ndarray:
    return np.argwhere(label.array == number).mean(axis=0) @ label.affine[:3, :3].T + label.affine[:3, 3]


def test_the_box_and_the_mid_plane_are_those_of_the_body(body) -> None:
    image, label = body(0)
    frame = find_body(image, "CT")
    assert frame.kind == "body"
    found = np.argwhere(image.array > -300)
    low, high = (place @ image.affine[:3, :3].T + image.affine[:3, 3] for place in (found.min(0), found.max(0)))
    np.testing.assert_allclose(frame.low_mm, low, atol=8)
    np.testing.assert_allclose(frame.high_mm, high, atol=8)
    assert abs(frame.midplane_mm - centre_mm(label, 7)[0]) < 4
    point = centre_mm(label, 7)
    assert ((frame.to_normalised(point) > 0) & (frame.to_normalised(point) < 1)).all()
    np.testing.assert_allclose(frame.to_mm(frame.to_normalised(point)), point)


def test_a_couch_beside_the_body_is_no_part_of_it(body) -> None:
    image, _ = body(0)
    couch = image.array.copy()
    couch[:, 0] = 200
    np.testing.assert_allclose(find_body(Volume(couch, image.affine), "CT").low_mm, find_body(image, "CT").low_mm)


@pytest.mark.parametrize("orientation", ["LPS", "SRA", "AIR"])
def test_the_frame_is_the_same_in_any_orientation(body, orientation: str) -> None:
    image, _ = body(0)
    frame, turned = find_body(image, "CT"), find_body(reorient(image, orientation), "CT")
    np.testing.assert_allclose(turned.low_mm, frame.low_mm, atol=1e-4)
    assert turned.thumbnail.array.shape == frame.thumbnail.array.shape
    differing = np.abs(turned.thumbnail.array.astype(int) - frame.thumbnail.array) > 2  # places are rounded otherwise
    assert differing.mean() < 0.005


def test_a_crop_that_the_body_fills_has_nothing_but_its_own_box(body) -> None:
    image, _ = body(0)
    crop = Volume(image.array[24:36, 14:26, 28:40], image.affine)
    frame = find_body(crop, "CT")
    assert frame.kind == "scan" and frame.thumbnail is None
    np.testing.assert_allclose(frame.size_mm, [48, 48, 60])
    np.testing.assert_allclose(frame.to_normalised(frame.high_mm), 1)


def test_a_bright_organ_in_a_crop_is_no_body() -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(300, 10, (30, 30, 30))
    array[10:17, 10:17, 10:17] += 200
    assert find_body(Volume(array, np.eye(4)), "MR").kind == "scan"


def test_bodies_cut_at_different_heights_are_laid_onto_each_other(body) -> None:
    whole = body(0)
    for seed, low, high in ((1, 0, 60), (2, 12, 60), (3, 0, 50), (4, 10, 52)):
        image, label = body(seed, low=low, high=high)
        (alignment,) = align(find_body(image, "CT"), [find_body(whole[0], "CT")])
        place = alignment.to_query(centre_mm(whole[1], 7))
        assert np.linalg.norm(place - centre_mm(label, 7)) < 12, (seed, low, high)
        np.testing.assert_allclose(alignment.to_support(place), centre_mm(whole[1], 7))


def test_the_more_similar_support_scan_counts_more_and_one_without_features_not_at_all(body) -> None:
    image, _ = body(0)
    query = find_body(image, "CT")
    rng = np.random.default_rng(0)
    patchy = np.where(image.array > -300, image.array + 300 * np.sin(np.indices(image.shape) / 4).prod(axis=0), -1000)
    middle = np.reshape([30, 20, 30], (3, 1, 1, 1)) + rng.uniform(-1, 1)
    ball = np.where(((np.indices(image.shape) - middle) ** 2).sum(axis=0) < 150, 40, -1000)
    supports = [find_body(Volume(array, image.affine), "CT") for array in (body(6)[0].array, patchy, ball)]
    alike, unlike, featureless = align(query, supports)
    assert alike.weight > 0.9 and alike.weight + unlike.weight == pytest.approx(1) and featureless is None
    crop = find_body(Volume(image.array[24:36, 14:26, 28:40], np.eye(4)), "CT")
    assert align(query, [crop]) == [None] and align(crop, [query]) == [None]


def test_crops_are_laid_onto_each_other_by_their_boxes() -> None:
    small, large = (
        BodyFrame("scan", np.zeros(3), np.array(size, dtype=float), 5.0) for size in ([10, 20, 30], [20, 20, 60])
    )
    (alignment,) = align(small, [large])
    np.testing.assert_allclose(alignment.to_support(np.array([5.0, 5, 15])), [10, 5, 30])


def test_frames_survive_json_and_faults_are_refused(body) -> None:
    frame = find_body(body(0)[0], "CT")
    stored = json.loads(json.dumps(frame.to_json()))
    again = BodyFrame.from_json(stored)
    np.testing.assert_array_equal(again.thumbnail.array, frame.thumbnail.array)
    np.testing.assert_array_equal(again.thumbnail.affine, frame.thumbnail.affine)
    assert again.midplane_mm == frame.midplane_mm
    for fault in ({"shape": [9999, 9999, 9999]}, {"shape": [1, 1, 1]}, {"deflated": "AAAA"}):
        with pytest.raises(ValueError, match=r"array"):
            BodyFrame.from_json({**stored, "thumbnail": {**stored["thumbnail"], **fault}})
    with pytest.raises(ValueError, match="none of ours"):
        BodyFrame.from_json({**stored, "kind": "scan"})


def test_real_scans_show_bodies_and_crops_for_what_they_are(real_data) -> None:
    crops = read_cohort(real_data / "hippocampus", "msd_hippocampus").split("development").cases[:10]
    assert {find_body(read_volume(case.image), "MR").kind for case in crops} == {"scan"}
    cases = read_cohort(real_data / "headneck_ct", "openkbp_headneck").split("development").cases[:6]
    scans = [(read_volume(case.image), read_label(case.label)) for case in cases]
    frames = [find_body(image, "CT") for image, _ in scans]
    assert {frame.kind for frame in frames} == {"body"}
    apart = []
    for (_, label), frame in zip(scans[1:], frames[1:], strict=True):
        (alignment,) = align(frame, frames[:1])
        place = alignment.to_query(centre_mm(scans[0][1], 7))
        apart.append(np.linalg.norm(place - centre_mm(label, 7)))
    assert np.median(apart) < 25


def test_a_fine_scan_gives_the_same_frame_as_a_coarse_one(body) -> None:
    image, _ = body(0)
    coarse, fine = find_body(image, "CT"), find_body(resample(image, (2.0, 2.0, 2.5)), "CT")
    np.testing.assert_allclose(fine.low_mm, coarse.low_mm, atol=6)
    (alignment,) = align(fine, [coarse])
    assert np.abs(alignment.shift_mm).max() < 4
