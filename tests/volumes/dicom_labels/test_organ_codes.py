"""The table of organs, against pydicom's copy of the DICOM standard's."""

import json
from importlib import resources

import pytest
from pydicom.sr import _concepts_dict

from medfm3d.volumes.dicom_labels import organ_code, uncoded_organs
from medfm3d.volumes.dicom_labels.organ_codes import ABNORMAL_STRUCTURE, ANATOMICAL_STRUCTURE, BODY_STRUCTURE, SIDES


@pytest.fixture(scope="module")
def standard() -> dict[str, set[str]]:
    """Meanings of each code of SNOMED CT that DICOM uses."""
    meanings: dict[str, set[str]] = {}
    for entry in _concepts_dict.concepts["SCT"].values():
        for code, (meaning, _) in entry.items():
            meanings.setdefault(code, set()).add(meaning.lower())
    return meanings


def test_every_code_means_in_the_standard_what_it_means_here(standard: dict[str, set[str]]) -> None:
    file = resources.files("medfm3d.volumes.dicom_labels") / "organ_codes.json"
    rows = json.loads(file.read_text())["organs"]
    assert len(rows) > 140
    for row in rows:
        assert row["meaning"].lower() in standard[row["code"]], row
    names = [name for row in rows for name in row["names"]]
    assert len(names) == len(set(names))
    for code in (ABNORMAL_STRUCTURE, ANATOMICAL_STRUCTURE, *SIDES.values()):
        assert code.meaning.lower() in standard[code.value]
    assert BODY_STRUCTURE.value in standard


@pytest.mark.parametrize(
    "name, meaning, side",
    [
        ("LeftParotid", "Parotid gland", "Left"),
        ("Parotid_R", "Parotid gland", "Right"),
        ("kidney, left", "Kidney", "Left"),
        ("Glnd_Submand_L", "Submandibular gland", "Left"),
        ("lung_upper_lobe_right", "Upper lobe of lung", "Right"),
        ("lung_middle_lobe_right", "Middle lobe of right lung", None),
        ("heart_atrium_left", "Left atrium", None),
        ("vertebrae_L1", "L1 vertebra", None),  # the L is no side
        ("Vertebra_L_1", "L1 vertebra", None),
        ("rib_right_12", "Rib", "Right"),
        ("OpticChiasm", "Optic chiasm", None),
        ("Brainstem", "Brain Stem", None),
        ("hippocampus", "Hippocampus", None),
        ("cancer", "Neoplasm", None),
    ],
)
def test_names_as_they_are_written(name: str, meaning: str, side: str | None) -> None:
    code = organ_code(name)
    assert code.known
    assert (code.type.meaning, code.side and code.side.meaning) == (meaning, side)


@pytest.mark.parametrize(
    "name", ["left liver", "vertebrae_L6", "kidney_left_right", "anterior", "prostate/uterus", "печень"]
)
def test_what_is_not_known_gets_no_code_of_another_organ(name: str) -> None:
    code = organ_code(name)
    assert not code.known
    assert (code.type.scheme_designator, code.type.meaning, code.side) == ("99MEDFM3D", name, None)
    assert len(code.type.value) <= 16
    assert code.type.value != organ_code(name + " 2").type.value


def test_uncoded_organs_are_listed() -> None:
    assert uncoded_organs(["liver", "blob", "Kidney_L", "thing"]) == ["blob", "thing"]
