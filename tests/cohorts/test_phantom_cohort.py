"""A cohort of phantoms of which only some have a label map."""

import json
from pathlib import Path

import numpy as np
import pytest

from medfm3d.cohorts import AbdominalPhantom, read_cohort, write_phantom_cohort
from medfm3d.volumes import read_volume

SHAPE, SPACING_MM = (32, 32, 32), 9.0


def test_only_the_first_cases_have_a_label_map_when_asked(tmp_path: Path) -> None:
    folder = write_phantom_cohort(tmp_path / "few", cases=3, seed=4, shape=SHAPE, spacing_mm=SPACING_MM, labelled=1)
    cohort = read_cohort(folder, "synthetic_phantom")
    assert cohort.names == ("phantom_000", "phantom_001", "phantom_002")
    assert [case.label is not None for case in cohort] == [True, False, False]
    assert len(list((folder / "labelsTr").iterdir())) == 1
    described = json.loads((folder / "dataset.json").read_text())
    assert (described["numTraining"], described["numTest"]) == (1, 2)
    image, _ = AbdominalPhantom(SHAPE, SPACING_MM).generate(4 + 2)
    np.testing.assert_array_equal(read_volume(cohort.cases[2].image).array, image.array)


def test_a_cohort_without_any_label_map(tmp_path: Path) -> None:
    folder = write_phantom_cohort(tmp_path / "none", cases=2, shape=SHAPE, spacing_mm=SPACING_MM, labelled=0)
    assert all(case.label is None for case in read_cohort(folder))


@pytest.mark.parametrize("labelled", [-1, 3])
def test_an_impossible_number_of_label_maps_is_refused(tmp_path: Path, labelled: int) -> None:
    with pytest.raises(ValueError, match="labelled"):
        write_phantom_cohort(tmp_path / "wrong", cases=2, labelled=labelled)
    assert not list(tmp_path.iterdir())
