"""Organ volume and number of pieces, on made-up masks and real outlines."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medfm3d.cohorts import read_cohort
from medfm3d.inference.remarks import case_remarks
from medfm3d.priors import (
    PRIORS,
    ComponentsPrior,
    NotFittedError,
    PriorSet,
    VolumePrior,
    check_prior,
    keep_expected_components,
    predictive_distribution,
    reference_volume,
    touches_edge,
)
from medfm3d.volumes import Volume, read_label

ORGANS = {"blob": 3}
SPACING_MM = 2.0


def balls(*places_and_radii: tuple[tuple[int, int, int], float], side: int = 40) -> Volume:
    """Label map with balls of label 3; radii in voxels."""
    grid = np.indices((side,) * 3)
    array = np.zeros((side,) * 3, dtype=np.uint8)
    for place, radius in places_and_radii:
        array[((grid - np.reshape(place, (3, 1, 1, 1))) ** 2).sum(axis=0) <= radius**2] = 3
    return Volume(array, np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1]))


def support(count: int = 5) -> list[Volume]:
    return [balls(((20, 20, 20), 8 + 0.4 * n)) for n in range(count)]


def volume_ml(label: Volume) -> float:
    return float((label.array == 3).sum()) * SPACING_MM**3 / 1000


@pytest.mark.parametrize("kind", PRIORS.values(), ids=PRIORS)
def test_every_prior_keeps_the_contract(kind: type) -> None:
    labels = support()
    scans = [Volume(np.where(label.array > 0, 60.0, -1000.0), label.affine) for label in labels]
    check_prior(kind(), labels, ORGANS, scans)


@pytest.mark.parametrize("name", [name for name, kind in PRIORS.items() if not kind.needs_image])
def test_priors_of_masks_alone_keep_the_contract_without_scans(name: str) -> None:
    check_prior(PRIORS[name](), support(), ORGANS)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("count", [1, 5])
def test_every_prior_keeps_the_contract_on_bodies(name: str, count: int, bodies: list, body_organs: dict) -> None:
    images, labels = zip(*bodies[:count], strict=True)
    check_prior(PRIORS[name](), labels, body_organs, images)


def test_one_case_is_predicted_by_hand_calculation() -> None:
    """One log volume, 4 degrees of freedom of expected spread: t with 4, scale sqrt(2) times that spread."""
    found = predictive_distribution([50.0], "unheard of")
    assert found.degrees_of_freedom == 4
    assert found.location == pytest.approx(math.log(50))
    assert found.scale == pytest.approx(math.sqrt(2 * math.log1p(0.3**2)))


def test_many_cases_overrule_what_was_expected() -> None:
    logs = np.random.default_rng(0).normal(7, 0.1, 4000)
    found = predictive_distribution(np.exp(logs).tolist(), "liver")
    assert found.location == pytest.approx(7, abs=0.01)
    assert found.scale == pytest.approx(0.1, rel=0.05)


def test_a_published_table_speaks_where_the_support_is_silent_and_counts_as_one_case() -> None:
    liver = reference_volume("Liver")
    assert liver.mean_ml == pytest.approx(1600 / 1.05) and "ICRP" in liver.source
    alone = predictive_distribution([], "liver")
    assert stats.lognorm(alone.scale, scale=math.exp(alone.location)).median() == pytest.approx(
        liver.mean_ml / math.sqrt(1 + liver.cv**2)
    )
    with_one = predictive_distribution([800.0], "liver")
    assert with_one.location == pytest.approx((alone.location + math.log(800)) / 2)
    assert predictive_distribution([], "unheard of") is None


def test_too_small_too_large_and_missing_organs_surprise() -> None:
    prior = VolumePrior().fit(support(), ORGANS)
    (usual,) = prior.surprise(balls(((20, 20, 20), 9)), ORGANS)
    (small,) = prior.surprise(balls(((20, 20, 20), 3)), ORGANS)
    (large,) = prior.surprise(balls(((20, 20, 20), 19)), ORGANS)
    (missing,) = prior.surprise(balls(), ORGANS)
    assert usual.p_value > 0.5 and small.p_value < 0.01 and large.p_value < 0.01 and missing.p_value == 0
    assert small.z < -2.5 and large.z > 2.5
    assert f"{volume_ml(balls(((20, 20, 20), 3))):.3g} mL" in small.text and "missing" in missing.text
    distribution = prior.organs_["blob"]
    expected = stats.t(distribution.degrees_of_freedom, distribution.location, distribution.scale)
    volume = volume_ml(balls(((20, 20, 20), 3)))
    assert small.p_value == pytest.approx(2 * expected.cdf(math.log(volume)))
    assert prior.log_prior("blob", volume) == pytest.approx(expected.logpdf(math.log(volume)) - math.log(volume))
    assert prior.log_prior("blob", 0) == -math.inf


def test_organs_cut_by_the_scan_are_neither_learnt_nor_called_small() -> None:
    cut = balls(((0, 20, 20), 9))
    assert touches_edge(cut.array == 3) and not touches_edge(support()[0].array == 3)
    prior = VolumePrior().fit([*support(), cut], ORGANS)
    assert prior.organs_["blob"].cases == 5
    (said,) = prior.surprise(balls(((0, 20, 20), 3)), ORGANS)
    assert said.p_value == 1 and "touches the edge" in said.text


def test_crumbs_surprise_and_are_removed_with_a_list() -> None:
    prior = ComponentsPrior().fit(support(10), ORGANS)
    crumbs = balls(((12, 20, 20), 7), ((30, 20, 20), 2), ((30, 32, 20), 0))
    (whole,) = prior.surprise(support()[0], ORGANS)
    (broken,) = prior.surprise(crumbs, ORGANS)
    assert whole.p_value == 1 and "1 piece" in whole.text
    # 10 cases of one piece on 9 that were assumed, and 1 for all of the 9 other numbers, 2 pieces among them
    assert broken.p_value == pytest.approx((1 - 1 / 9) / 20) and "3 pieces" in broken.text

    before = crumbs.array.copy()
    kept, changes = keep_expected_components(crumbs, ORGANS, prior)
    assert np.array_equal(crumbs.array, before)
    assert np.array_equal(kept.array, balls(((12, 20, 20), 7)).array)
    assert [change.voxels for change in changes] == [33, 1]
    np.testing.assert_allclose(changes[0].centre_mm, (60, 40, 40))
    assert changes[0].volume_ml == pytest.approx(33 * 0.008)
    assert keep_expected_components(kept, ORGANS, prior) == (kept, [])


def test_unfitted_priors_say_so() -> None:
    for kind in PRIORS.values():
        with pytest.raises(NotFittedError, match="not fitted"):
            kind().log_prior("blob", 1.0)
    with pytest.raises(NotFittedError, match="spleen"):
        VolumePrior().fit(support(), ORGANS).log_prior("spleen", 1.0)
    with pytest.raises(ValueError, match="no label maps"):
        PriorSet([VolumePrior()]).fit([], ORGANS)
    with pytest.raises(ValueError, match="once"):
        PriorSet([VolumePrior(), VolumePrior()])


def test_stored_priors_say_the_same_and_broken_files_are_named(tmp_path: Path) -> None:
    priors = PriorSet([VolumePrior(), ComponentsPrior()]).fit(support(), ORGANS)
    path = priors.save(tmp_path / "priors.json")
    odd = balls(((20, 20, 20), 4), ((33, 33, 33), 2))
    said = priors.surprise(odd, ORGANS)
    assert PriorSet.load(path).surprise(odd, ORGANS) == said
    assert [s.p_value for s in said] == sorted(s.p_value for s in said)
    for content in ("{", "[]", json.dumps({"format": "other"}), json.dumps({"format": "medfm3d-priors-1"})):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"priors\.json.*adapt again"):
            PriorSet.load(path)


def test_real_hippocampi_are_as_surprising_as_p_values_say(real_data: Path) -> None:
    cohort = read_cohort(real_data / "hippocampus", "msd_hippocampus").split("development")
    labels = [read_label(case.label) for case in cohort]
    priors = PriorSet([VolumePrior(), ComponentsPrior()]).fit(labels[:5], cohort.organs)
    said = [surprise for label in labels[5:] for surprise in priors.surprise(label, cohort.organs)]
    assert np.mean([surprise.p_value < 0.05 for surprise in said]) <= 0.05
    half = labels[10].array.copy()
    half[np.indices(half.shape).sum(axis=0) % 4 != 0] = 0  # a quarter of the voxels, in crumbs
    remarks = priors.surprise(Volume(half, labels[10].affine), cohort.organs)
    assert {(s.organ, s.prior) for s in remarks if s.p_value < 0.05} >= {
        (organ, prior) for organ in cohort.organs for prior in ("volume", "components")
    }


@pytest.mark.parametrize("count", [1, 5, 10])
def test_pieces_that_every_support_case_shows_are_kept(count: int) -> None:
    pair = balls(((12, 20, 20), 5), ((30, 20, 20), 4))
    prior = ComponentsPrior().fit([pair] * count, ORGANS)
    assert keep_expected_components(pair, ORGANS, prior) == (pair, [])
    three = balls(((12, 20, 20), 5), ((30, 20, 20), 4), ((20, 35, 35), 1))
    assert len(keep_expected_components(three, ORGANS, prior)[1]) == 1
    many = balls(*(((4 + 6 * n, 4 + 6 * m, 20), 1) for n in range(5) for m in range(3)))
    ribs = ComponentsPrior().fit([many] * count, ORGANS)
    assert ribs.tolerated_count("blob") is None and keep_expected_components(many, ORGANS, ribs) == (many, [])


def test_too_many_pieces_are_remarked_on_as_they_are_removed() -> None:
    for cases in (1, 5, 10):
        priors = PriorSet([ComponentsPrior()]).fit(support(cases), ORGANS)
        broken = replace(balls(((12, 20, 20), 7), ((30, 20, 20), 2)), source=Path("broken.nii.gz"))
        (remark,) = case_remarks(broken, None, ORGANS, priors)
        assert remark["case"] == "broken" and "falls into 2 pieces, expected 1" in remark["text"]
        assert case_remarks(replace(support()[0], source=Path("whole.nii.gz")), None, ORGANS, priors) == []


def test_an_organ_that_all_support_scans_cut_is_missed_all_the_same() -> None:
    fitted = VolumePrior().fit([balls(((0, 20, 20), 9))] * 3, ORGANS)
    for prior in (fitted, VolumePrior.from_json(json.loads(json.dumps(fitted.to_json())))):
        assert not prior.organs_ and prior.surprise(balls(((0, 20, 20), 5)), ORGANS) == []
        (missing,) = prior.surprise(balls(), ORGANS)
        assert missing.p_value == 0 and "blob is missing" in missing.text
        assert prior.surprise(balls(), {"never outlined": 4}) == []
