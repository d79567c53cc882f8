"""Left and right in names of organs."""

import pytest

from medfm3d.volumes.organ_sides import organ_pairs, organ_side


@pytest.mark.parametrize(
    ("name", "side", "rest"),
    [
        ("LeftParotid", "left", "parotid"),
        ("left_kidney", "left", "kidney"),
        ("kidney_left", "left", "kidney"),
        ("right lung", "right", "lung"),
        ("Lung_R", "right", "lung"),
        ("rt. femur", "right", "femur"),
        ("LKidney", "left", "kidney"),
        ("liver", None, "liver"),
        ("Larynx", None, "larynx"),
        ("bright spot", None, "bright spot"),
        ("left and right lung", None, "left and right lung"),
        ("vertebrae_L1", None, "vertebrae l1"),
        ("VertebraL1", None, "vertebra l1"),
        ("3rd-Ventricle", None, "3rd ventricle"),
        ("rib_left_1", "left", "rib 1"),
        ("Rib1_L", "left", "rib 1"),
        ("Ösophagus_L", "left", "ösophagus"),
        ("LÖsophagus", "left", "ösophagus"),
        ("nerf_glosso-pharyngé", None, "nerf glosso pharyngé"),
        ("O\u0308sophagus", None, "ösophagus"),
        ("肝臓", None, "肝臓"),
    ],
)
def test_sides_in_names(name: str, side: str | None, rest: str) -> None:
    assert organ_side(name) == (side, rest)


def test_pairs_of_names() -> None:
    assert organ_pairs(["kidney_left", "Right Kidney", "liver", "left lung"]) == [("kidney_left", "Right Kidney")]
