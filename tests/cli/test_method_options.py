"""A method's arguments and the policy by the command line."""

import json
from pathlib import Path

import pytest

from medfm3d.cli.options import parse_arguments
from medfm3d.inference import list_refinements, read_card


def test_arguments_are_numbers_switches_or_text() -> None:
    assert parse_arguments("rank=4, alpha=8.5,deep=false,name=x") == {
        "rank": 4,
        "alpha": 8.5,
        "deep": False,
        "name": "x",
    }
    assert parse_arguments(None) == parse_arguments("") == {}
    for wrong in ("rank", "rank=", "=4", "rank=4,rank=5", "a b=1"):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            parse_arguments(wrong)


def test_adapt_and_refine_by_the_command_line(medfm3d, small_cohort: Path, tmp_path: Path) -> None:
    where = ("--images", small_cohort / "imagesTr", "--labels", small_cohort / "labelsTr", "--organs", "cube=2,ball=5")
    method = ("--method", "prompt-tuning", "--method-arguments", "tokens=3,deep=false")
    options = ("--cases", "case_0,case_2", "--iterations", 5, "--output", tmp_path / "bundle")
    code, said = medfm3d("adapt", *where, *method, *options)
    assert code == 0, said
    card = read_card(tmp_path / "bundle")
    assert card["method"] == "prompt-tuning" and card["method_arguments"] == {"tokens": 3, "deep": False}
    assert card["method_reason"] == "chosen by the user"

    scan = small_cohort / "imagesTr" / "case_1.nii.gz"
    masks, result = tmp_path / "masks", tmp_path / "result.json"
    segment = ("segment", "--bundle", tmp_path / "bundle", "--input", scan, "--output", masks, "--json", result)
    code, said = medfm3d(*segment, "--transductive")
    assert code == 0, said
    (refined,) = json.loads(result.read_text())["refinements"]
    assert [refined] == list_refinements(masks, [scan]) and len(refined["organs"]) == 2
    assert "refined in" in said and "case_1: cube" in said and "case_1: ball" in said
    code, said = medfm3d(*segment)
    assert code == 0 and json.loads(result.read_text())["refinements"] == [] and "refined in" not in said
    assert not (masks / "case_1_transductive.json").exists()  # what it said was of another mask

    auto = ("--method", "auto", "--method-arguments", "rank=4", "--output", tmp_path / "never")
    code, said = medfm3d("adapt", *where, "--cases", "case_0,case_2", *auto)
    assert code == 1 and "takes no arguments" in said.replace("\n", " ")
    assert not (tmp_path / "never").exists()
