"""Support sets are drawn alike for equal seeds, and over the whole range of organ sizes."""

from dataclasses import replace

import numpy as np
import pytest

from medfm3d.cohorts import Case, Cohort, CohortError, cohort_from_folders, k_shot_split, organ_volumes_ml, read_cohort


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """40 cases; liver (1) of case n has 10 + 5 n voxels, spleen (2) 8 voxels, and is lacking in every fourth case."""
    from medfm3d.volumes import Volume, write_volume

    folder = tmp_path_factory.mktemp("cohort")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number in range(40):
        array = np.zeros(1000, np.uint8)
        array[: 10 + 5 * number] = 1
        array[-8:] = 2 if number % 4 else 0
        write_volume(
            Volume(array.reshape(10, 10, 10), np.diag([1.0, 1.0, 2.0, 1.0])), folder / f"labels/c{number:02d}.nii.gz"
        )
        (folder / f"images/c{number:02d}.nii.gz").touch()  # a split opens no image
    return folder / "images", folder / "labels"


@pytest.fixture(scope="module")
def cohort(folders):
    return cohort_from_folders(*folders, organs={"liver": 1, "spleen": 2})


def test_volume_in_ml(cohort):
    volumes = organ_volumes_ml(cohort.select(["c03"]).cases[0], {"liver": 1, "spleen": 2, "kidney": 9})
    assert volumes == pytest.approx({"liver": 0.050, "spleen": 0.016, "kidney": 0.0})
    with pytest.raises(CohortError, match="no label map"):
        organ_volumes_ml(Case("a", cohort.cases[0].image), {"liver": 1})


def test_equal_seeds_give_equal_splits_in_any_order(cohort):
    first = k_shot_split(cohort, 5, seed=7)
    shuffled = replace(cohort, cases=tuple(np.random.default_rng(0).permutation(np.array(cohort.cases, object))))
    assert shuffled.names != cohort.names
    assert k_shot_split(shuffled, 5, seed=7).support == first.support
    assert {k_shot_split(cohort, 5, seed).support.names for seed in range(5)} != {first.support.names}
    assert sorted(first.support.names + first.query.names) == list(cohort.names)


@pytest.mark.parametrize("seed", range(10))
def test_each_stratum_gives_one_case(cohort, seed):
    support = k_shot_split(cohort, 4, seed, organs=["liver"]).support
    assert [int(name[1:]) // 10 for name in support.names] == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_support_cases_have_every_organ(cohort, seed):
    assert all(int(name[1:]) % 4 for name in k_shot_split(cohort, 6, seed).support.names)


def test_organs_as_names_and_as_values_are_the_same(cohort, folders):
    by_name = k_shot_split(cohort, 4, 3, organs=["spleen", "liver"])
    assert k_shot_split(cohort, 4, 3, organs={"spleen": 2, "liver": 1}) == by_name
    nameless = cohort_from_folders(*folders)
    assert not nameless.organs
    assert k_shot_split(nameless, 4, 3, organs={"any": 2, "other": 1}).support.names == by_name.support.names


def test_organ_that_was_not_outlined_does_not_count_even_under_another_name(cohort):
    part = cohort.select([f"c{number:02d}" for number in (1, 2, 3, 5, 6, 7)])
    cases = tuple(replace(case, annotated=("spleen",) if int(case.name[1:]) < 4 else None) for case in part)
    part = replace(part, cases=cases)
    for organs in (["liver"], {"liver": 1}, {"hepar": 1}):
        assert sorted(k_shot_split(part, 3, 0, organs).support.names) == ["c05", "c06", "c07"]


@pytest.mark.parametrize(
    ("k", "organs", "told"),
    [
        (31, None, "30 cases with liver, spleen outlined, but 31 are asked for"),
        (0, None, "at least 1 case"),
        (3, ["kidney"], "no organ kidney: it has liver, spleen"),
        (3, {"kidney": 9}, "no label value of kidney=9: it has liver=1, spleen=2"),
        (3, {"liver": 2}, "has liver=1, not liver=2"),
        (3, [], "names no organs"),
    ],
)
def test_impossible_split_is_refused(cohort, k, organs, told):
    with pytest.raises(CohortError, match=told):
        k_shot_split(cohort, k, 0, organs)


def test_nameless_cohort_needs_label_values(folders):
    with pytest.raises(CohortError, match="names no organs"):
        k_shot_split(cohort_from_folders(*folders), 3, 0)
    with pytest.raises(CohortError, match="give the label values"):
        k_shot_split(cohort_from_folders(*folders), 3, 0, ["liver"])


def test_unlabelled_cases_are_queries(cohort):
    mixed = Cohort("mixed", (Case("z", cohort.cases[0].image), *cohort.cases[:4]), cohort.labels)
    support, query = k_shot_split(mixed, 3, 0)
    assert set(support.names) == {"c01", "c02", "c03"} and set(query.names) == {"z", "c00"}


def test_real_head_and_neck_support_has_the_outlined_organs(real_data):
    cohort = read_cohort(real_data / "headneck_ct", "openkbp_headneck").split("development")
    support = k_shot_split(cohort, 5, 0, ["Larynx", "Mandible"]).support
    assert all(case.outlines("Larynx") for case in support)
    volumes = [organ_volumes_ml(case, {"Mandible": 7})["Mandible"] for case in support]
    assert 29 < min(volumes) < max(volumes) < 112
