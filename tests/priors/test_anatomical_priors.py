"""Location, laterality, adjacency and topology: what they call surprising, and what they add to logits."""

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import euler_number

from medfm3d.priors import (
    PRIORS,
    AdjacencyPrior,
    LateralityPrior,
    LocationPrior,
    NotFittedError,
    OrganScores,
    PriorSet,
    TopologyPrior,
    create_priors,
    find_body,
    topology,
    touching_shares,
)
from medfm3d.volumes import Volume


def scores_of(label: Volume, organs: dict[str, int], image: Volume | None = None, sure: float = 4.0) -> OrganScores:
    masks = np.stack([label.array == number for number in organs.values()])
    logits = sure * np.concatenate([~masks.any(axis=0, keepdims=True), masks]).astype(np.float32)
    return OrganScores(logits, label.affine, list(organs), None if image is None else find_body(image, "CT"))


def moved(label: Volume, number: int, voxels: tuple[int, int, int]) -> Volume:
    array = np.where(label.array == number, 0, label.array)
    place = np.argwhere(label.array == number) + voxels
    array[tuple(place.T)] = number
    return Volume(array.astype(label.array.dtype), label.affine)


@pytest.fixture(scope="module")
def fitted(bodies: list, body_organs: dict[str, int]) -> PriorSet:
    images, labels = zip(*bodies, strict=True)
    return PriorSet(create_priors(list(PRIORS), "CT")).fit(labels, body_organs, images)


# -- location


def test_an_organ_in_another_place_surprises_and_one_in_its_place_does_not(fitted, body, body_organs) -> None:
    for seed, cut in ((20, {}), (21, {"low": 10}), (22, {"high": 52})):
        image, label = body(seed, **cut)
        said = {s.organ: s for s in fitted["location"].surprise(label, body_organs, image)}
        assert all(said[organ].p_value > 0.05 for organ in body_organs), (seed, said)
        low = {s.organ: s for s in fitted["location"].surprise(moved(label, 7, (0, 0, -20)), body_organs, image)}
        assert low["Core"].p_value < 0.01 and low["LeftGland"].p_value == said["LeftGland"].p_value
        assert "most of it down" in low["Core"].text


def test_one_support_scan_tells_less_than_five(body, bodies, body_organs) -> None:
    image, label = body(23)
    off = moved(label, 7, (0, 7, 0))
    p_values, spreads = [], []
    for count in (1, 5):
        images, labels = zip(*bodies[:count], strict=True)
        prior = LocationPrior("CT").fit(labels, body_organs, images)
        p_values += [s.p_value for s in prior.surprise(off, body_organs, image) if s.organ == "Core"]
        spreads.append(prior.organs_["Core"].spread_mm)
    assert p_values[0] > p_values[1] and (spreads[0] > spreads[1]).all()


def test_the_box_holds_the_organ_and_little_else(fitted, body, body_organs) -> None:
    image, label = body(24, low=6)
    frame = find_body(image, "CT")
    for organ, number in body_organs.items():
        box = fitted["location"].box(organ, frame)
        inside = label.array[box.slices(label.affine, label.shape)] == number
        assert inside.sum() == (label.array == number).sum() and inside.size < 0.25 * label.array.size
        wider = fitted["location"].box(organ, frame, margin_mm=10)
        np.testing.assert_allclose(np.array(box.low_mm) - wider.low_mm, 10)


def test_far_away_the_log_prior_takes_an_organ_back_and_in_its_place_it_is_silent(fitted, body, body_organs) -> None:
    image, label = body(25)
    array = label.array.copy()
    array[28:31, 18:21, 3:6] = 7  # a piece of Core in the trunk
    before = scores_of(Volume(array, label.affine), body_organs, image)
    after = before.plus(fitted["location"].logit_offsets(before))
    assert not after.mask("Core")[:, :, :8].any()
    true = label.array == 7
    assert after.mask("Core")[true].mean() > 0.97
    offset = fitted["location"].logit_offsets(before)["Core"]
    assert offset.max() == 0 and offset.min() >= -6 and (offset[true] == 0).mean() > 0.9


def test_a_scan_of_something_else_is_not_judged(fitted, body, body_organs) -> None:
    image, label = body(26)
    crop = slice(24, 36), slice(14, 26), slice(28, 40)
    image, label = Volume(image.array[crop], image.affine), Volume(label.array[crop], label.affine)
    said = fitted["location"].surprise(label, body_organs, image)
    assert said and all(s.p_value == 1 and "not judged" in s.text for s in said)
    assert fitted["location"].box("Core", find_body(image, "CT")) is None
    assert fitted["location"].logit_offsets(scores_of(label, body_organs, image)) == {}


def test_location_asks_for_scans(bodies, body_organs) -> None:
    images, labels = zip(*bodies, strict=True)
    with pytest.raises(ValueError, match="one image for each label"):
        LocationPrior().fit(labels, body_organs)
    prior = LocationPrior("CT").fit(labels, body_organs, images)
    with pytest.raises(ValueError, match="give the image"):
        prior.surprise(labels[0], body_organs)
    with pytest.raises(ValueError, match="frame"):
        prior.logit_offsets(scores_of(labels[0], body_organs))
    # Of a set of priors, those that need the scan are left out without.
    assert all(s.prior != "location" for s in PriorSet([prior]).surprise(labels[0], body_organs))


# -- laterality


def test_exchanged_sides_surprise(fitted, body, body_organs) -> None:
    image, label = body(30)
    exchanged = label.array.copy()
    exchanged[label.array == 2], exchanged[label.array == 4] = 4, 2
    exchanged = Volume(exchanged, label.affine)
    for scan in (image, None):
        assert all(s.p_value == 1 for s in fitted["laterality"].surprise(label, body_organs, scan))
        said = fitted["laterality"].surprise(exchanged, body_organs, scan)
        assert {s.organ for s in said} == {"LeftGland", "RightGland"} and all(s.p_value < 0.01 for s in said)
    alone = Volume(np.where(exchanged.array == 2, 2, 0), label.affine)
    assert fitted["laterality"].surprise(alone, body_organs) == []
    (said,) = fitted["laterality"].surprise(alone, body_organs, image)
    assert said.p_value < 0.01 and "mid-plane" in said.text and "expected right" in said.text


def test_a_support_set_with_exchanged_names_is_believed(bodies, body, body_organs) -> None:
    names = {"RightGland": body_organs["LeftGland"], "LeftGland": body_organs["RightGland"]}
    images, labels = zip(*bodies, strict=True)
    prior = LateralityPrior("CT").fit(labels, names, images)
    assert all(s.p_value == 1 for s in prior.surprise(body(31)[1], names))
    assert prior.log_prior("LeftGland", 1.0) > prior.log_prior("LeftGland", -1.0)


def test_the_wrong_side_is_lowered_where_the_other_organ_lies(fitted, body, body_organs) -> None:
    image, label = body(32)
    both = scores_of(label, body_organs, image, sure=1.0)
    logits = both.logits.copy()
    logits[both.channel("RightGland")] += 2.0 * (
        label.array == body_organs["LeftGland"]
    )  # the network takes one for the other
    confused = OrganScores(logits, both.affine, both.organs, both.frame)
    left = label.array == body_organs["LeftGland"]
    assert confused.mask("RightGland")[left].all()
    after = confused.plus(fitted["laterality"].logit_offsets(confused))
    assert after.mask("LeftGland")[left].mean() > 0.8
    without = OrganScores(both.logits, both.affine, both.organs)
    offsets = fitted["laterality"].logit_offsets(without)  # no frame: by the organs themselves
    assert offsets["LeftGland"].max() <= 0 and offsets["LeftGland"].min() < -3


# -- adjacency


def test_shares_of_surfaces_by_hand() -> None:
    array = np.zeros((8, 8, 8), dtype=np.uint8)
    array[1:3, 1:3, 1:3], array[3:6, 1:3, 1:3] = 1, 9  # 2 x 2 x 2 beside 3 x 2 x 2, spacing 1 x 2 x 3
    shares = touching_shares(Volume(array, np.diag([1.0, 2, 3, 1])), {"a": 1, "b": 9, "c": 5})
    surface = 2 * (4 * 6 + 4 * 3 + 4 * 2)
    assert shares[0, 1] == shares[1, 0] == pytest.approx(4 * 6 / surface)
    assert np.isnan(shares[2]).all() and np.isnan(shares[0, 0])


def test_shares_of_small_organs_in_a_large_scan_take_little_memory() -> None:
    array = np.zeros((160, 160, 160), dtype=np.uint8)
    array[20:30, 5:9, 7:20], array[30:40, 5:9, 7:20] = 1, 2
    tracemalloc.start()
    shares = touching_shares(Volume(array, np.eye(4)), {"a": 1, "b": 2})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shares[0, 1] == pytest.approx(4 * 13 / (2 * (10 * 4 + 10 * 13 + 4 * 13))) and peak < 6 * array.size
    assert np.isnan(touching_shares(Volume(array, np.eye(4)), {"a": 1})).all()


def test_contacts_that_are_new_and_contacts_that_are_gone_surprise(fitted, body, body_organs) -> None:
    label = body(40)[1]
    usual = fitted["adjacency"].surprise(label, body_organs)
    assert all(s.p_value > 0.9 for s in usual)
    apart = {s.organ: s for s in fitted["adjacency"].surprise(moved(label, 7, (0, 12, 0)), body_organs)}
    assert apart["Core"].p_value < 0.01 and "does not touch" in apart["Core"].text
    glued = moved(label, 4, (5, 10, 0))
    glued = moved(glued, 2, (-4, 10, 0))
    said = {s.organ: s for s in fitted["adjacency"].surprise(glued, {"LeftGland": 4, "RightGland": 2})}
    assert said["LeftGland"].p_value < 0.01 and "touches RightGland" in said["LeftGland"].text


def test_strangers_push_each_other_away_and_neighbours_do_not() -> None:
    labels = []
    for n in range(4):
        array = np.zeros((20, 12, 12), dtype=np.uint8)
        array[2:6, 3:9, 3:9], array[6:10, 3:9, 3:9], array[14 : 17 + n % 2, 3:9, 3:9] = 1, 2, 3
        labels.append(Volume(array, np.eye(4)))
    organs = {"a": 1, "b": 2, "c": 3}
    prior = AdjacencyPrior().fit(labels, organs)
    assert prior.never_touching() == [("a", "c"), ("b", "c")]
    array = labels[0].array.copy()
    array[10:14, 5:7, 5:7] = 3  # a bridge from c to b
    scores = scores_of(Volume(array, np.eye(4)), organs)
    offsets = prior.logit_offsets(scores)
    assert offsets["c"][10, 5, 5] < -3 and offsets["c"][13, 5, 5] > -0.5
    assert offsets["a"][6, 5, 5] > -0.5  # b is no stranger to a
    assert prior.log_prior("b", 1) > prior.log_prior("b", 0)
    assert math.exp(prior.log_prior("b", 0)) + math.exp(prior.log_prior("b", 1)) + math.exp(
        prior.log_prior("b", 2)
    ) == pytest.approx(1)


# -- topology


def ring_and_room() -> np.ndarray:
    mask = np.zeros((20, 20, 12), dtype=bool)
    mask[2:16, 2:16, 2:10] = True
    mask[7:10, 7:10] = False  # a tunnel
    mask[12:14, 12:14, 5:7] = False  # a cavity
    return mask


def test_betti_numbers_by_hand() -> None:
    mask = ring_and_room()
    assert topology(mask) == (1, 1, 1) and topology(mask).euler == euler_number(mask, 3) == 1
    mask[18, 18, 11] = True
    assert topology(mask) == (2, 1, 1)
    assert topology(np.zeros((3, 3, 3), dtype=bool)) == (0, 0, 0)


def test_frayed_and_hollow_masks_surprise_and_rooms_are_filled(fitted, body, body_organs) -> None:
    label = body(50)[1]
    assert all(s.p_value > 0.1 for s in fitted["topology"].surprise(label, body_organs))
    rng = np.random.default_rng(0)
    frayed = Volume(np.where((label.array == 7) & (rng.random(label.shape) < 0.4), 0, label.array), label.affine)
    said = {s.organ: s for s in fitted["topology"].surprise(frayed, body_organs)}
    assert said["Core"].p_value < 0.01 and said["LeftGland"].p_value > 0.1
    solid = ring_and_room()
    solid[12:14, 12:14, 5:7] = True
    prior = TopologyPrior().fit([Volume(solid.astype(np.uint8), np.eye(4))] * 5, {"ring": 1})
    scores = scores_of(Volume(ring_and_room().astype(np.uint8), np.eye(4)), {"ring": 1}, sure=0.5)
    offset = prior.logit_offsets(scores)["ring"]
    assert (offset[12:14, 12:14, 5:7] > 1).all() and (offset > 0).sum() == 8
    assert np.array_equal(scores.plus({"ring": offset}).mask("ring"), solid)
    assert prior.logit_offsets(scores_of(Volume(solid.astype(np.uint8), np.eye(4)), {"ring": 1})) == {}


# -- volume and pieces on logits


def test_a_doubtful_organ_is_brought_towards_its_volume(fitted, body, body_organs) -> None:
    label = body(60)[1]
    masks = scores_of(label, body_organs)
    distance = np.linalg.norm(
        np.indices(label.shape) - np.argwhere(label.array == 7).mean(axis=0).reshape(3, 1, 1, 1), axis=0
    )
    logits = np.zeros_like(masks.logits)
    logits[0], logits[masks.channel("Core")] = 0, 0.8 * (7 - distance)  # far too large, and not sure of its edge
    scores = OrganScores(logits.astype(np.float32), label.affine, masks.organs)
    offsets = fitted["volume"].logit_offsets(scores)
    assert offsets["Core"] < -0.3
    after = scores.plus(offsets)
    assert (label.array == 7).sum() * 0.8 < after.mask("Core").sum() < scores.mask("Core").sum()


def test_crumbs_are_lowered_and_the_organ_is_not(fitted, body, body_organs) -> None:
    label = body(61)[1]
    array = label.array.copy()
    array[3, 3, 3] = 7
    scores = scores_of(Volume(array, label.affine), body_organs, sure=1.0)
    offset = fitted["components"].logit_offsets(scores)["Core"]
    assert offset[3, 3, 3] < -1 and (offset != 0).sum() == 1
    assert "LeftGland" not in fitted["components"].logit_offsets(scores)


def test_all_priors_are_stored_together_and_unknown_names_are_refused(
    fitted, body, body_organs, tmp_path: Path
) -> None:
    image, label = body(70)
    path = fitted.save(tmp_path / "priors.json")
    assert path.stat().st_size < 300_000
    loaded = PriorSet.load(path)
    assert loaded.surprise(label, body_organs, image) == fitted.surprise(label, body_organs, image)
    with pytest.raises(ValueError, match=r"unknown priors colour: choose from volume, .*topology"):
        create_priors(["colour"])
    for kind in PRIORS.values():
        with pytest.raises(NotFittedError):
            kind().logit_offsets(scores_of(label, body_organs, image))
