"""adapt, segment, evaluate, report, info and demo by the command line: results for scripts, exit codes, messages."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigParser

from medfm3d.cli.app import app
from medfm3d.cohorts import read_cohort
from medfm3d.inference import read_card
from medfm3d.volumes import Volume, read_label, read_volume, write_volume

ORGANS = "cube=2,ball=5"


def test_adapt_with_the_documented_options(medfm3d, small_cohort: Path, tmp_path: Path) -> None:
    where = ("--images", small_cohort / "imagesTr", "--labels", small_cohort / "labelsTr")
    output, result = tmp_path / "adapted", tmp_path / "result.json"
    options = ("--cases", "case_1,case_3", "--organs", ORGANS, "--method", "box-adapter", "--output", output)
    code, said = medfm3d("adapt", *where, *options, "--iterations", 5, "--seed", 3, "--json", result)
    assert code == 0, said
    assert "adapted by box-adapter to 2 scans" in said
    written = json.loads(result.read_text())
    assert written["support"] == ["case_1", "case_3"] and written["seed"] == 3 and written["adaptation_s"] > 0
    assert read_card(output)["plan"]["organs"] == {"cube": 2, "ball": 5} and written["unnamed"] == {}


def test_names_with_a_hash_stay_as_they_are(medfm3d, small_cohort: Path, tmp_path: Path) -> None:
    for kind in ("images", "labels"):  # MONAI's configs take # for the separator of ids
        for number in (1, 3):
            target = tmp_path / "scans #1" / kind / f"case #{number}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(small_cohort / f"{kind}Tr" / f"case_{number}.nii.gz", target)
    images, labels = tmp_path / "scans #1" / "images", tmp_path / "scans #1" / "labels"
    adapted, masks = tmp_path / "bundle #2", tmp_path / "masks #3"
    options = ("--organs", ORGANS, "--method", "linear-probe", "--iterations", 1, "--output", adapted)
    code, said = medfm3d("adapt", "--images", images, "--labels", labels, *options)
    assert code == 0, said
    code, said = medfm3d("segment", "--bundle", adapted, "--input", images, "--output", masks)
    assert code == 0, said
    assert {path.name for path in masks.glob("*.nii.gz")} == {"case #1.nii.gz", "case #3.nii.gz"}
    parser = ConfigParser()
    parser.read_config([str(adapted / "configs" / f"{name}.json") for name in ("inference", "evaluate")])
    assert parser.get_parsed_content("support_names") == ["case #1", "case #3"]
    assert not list(tmp_path.glob("*::*"))


def test_the_bundle_goes_into_an_empty_folder_that_is_there(
    medfm3d, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, link = tmp_path / "here", tmp_path / "link"
    where = ("--images", small_cohort / "imagesTr", "--labels", small_cohort / "labelsTr", "--cases", "case_1")
    options = (*where, "--organs", ORGANS, "--method", "linear-probe", "--iterations", 1)
    (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere")
    folder.mkdir()
    monkeypatch.chdir(folder)
    for output in (".", link):
        code, said = medfm3d("adapt", *options, "--output", output)
        assert code == 0, said
    assert link.is_symlink() and Path.cwd() == folder
    for made in (folder, tmp_path / "elsewhere"):
        assert read_card(made)["support"] == ["case_1"] and not [*made.glob(".*")]
        assert {path.name for path in made.iterdir()} == {"LICENSE", "configs", "docs", "models"}
    assert not [*tmp_path.glob(".*")]
    code, said = medfm3d("adapt", *options, "--output", ".")
    assert code == 1 and "already there" in said


def test_adapt_to_one_mask_file_for_each_organ(medfm3d, small_cohort: Path, tmp_path: Path) -> None:
    for case in ("case_1", "case_3"):
        label = read_label(small_cohort / "labelsTr" / f"{case}.nii.gz")
        for organ, value in (("cube", 2), ("ball", 5)):
            file = tmp_path / "masks" / case / f"{organ}.nii.gz"
            write_volume(Volume((label.array == value).astype(np.uint8), label.affine), file)
    where = ("--images", small_cohort / "imagesTr", "--labels", tmp_path / "masks", "--json", tmp_path / "result.json")
    options = ("--method", "linear-probe", "--iterations", 1, "--output", tmp_path / "adapted")
    code, said = medfm3d("adapt", *where, "--organs", "cube=7,ball=1", *options)
    assert code == 0, said
    assert json.loads((tmp_path / "result.json").read_text())["support"] == ["case_1", "case_3"]
    assert read_card(tmp_path / "adapted")["plan"]["organs"] == {"cube": 7, "ball": 1}
    code, said = medfm3d("adapt", *where, "--organs", "cone=7", *options[:-1], tmp_path / "other")
    assert code == 1 and "has no mask of cone, only of ball, cube" in said.replace("\n", " "), said


def test_label_values_without_a_name_are_told(medfm3d, small_cohort: Path, tmp_path: Path) -> None:
    where = ("--images", small_cohort / "imagesTr", "--labels", small_cohort / "labelsTr", "--cases", "case_1,case_3")
    options = ("--method", "linear-probe", "--iterations", 1, "--output", tmp_path / "cube alone")
    code, said = medfm3d("adapt", *where, "--organs", "cube=2", *options)
    assert code == 0 and "label value 5 in 2 of 2 label maps has no name" in said.replace("\n", " "), said


def test_a_ct_is_not_taken_for_the_mr_of_the_bundle(medfm3d, bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    assert read_card(bundle)["plan"]["modality"] == "MR"
    scan = read_volume(read_cohort(small_cohort).cases[1].image)
    write_volume(Volume(scan.array - scan.array.min() - 1000, scan.affine), tmp_path / "scans" / "ct.nii.gz")
    options = ("--output", tmp_path / "masks", "--json", tmp_path / "result.json")
    code, said = medfm3d("segment", "--bundle", bundle, "--input", tmp_path / "scans", *options)
    assert code == 0 and "ct: the scan looks like CT" in said.replace("\n", " "), said
    assert json.loads((tmp_path / "result.json").read_text())["remarks"][0]["prior"] == "modality"


def test_segment_evaluate_and_report(medfm3d, bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    masks, segmented, scored = tmp_path / "masks", tmp_path / "segmented.json", tmp_path / "scored.json"
    options = ("--output", masks, "--probabilities", "--apply-priors", "--json", segmented)
    code, said = medfm3d("segment", "--bundle", bundle, "--input", small_cohort / "imagesTr", *options)
    assert code == 0, said
    result = json.loads(segmented.read_text())
    assert len(result["masks"]) == 6 and result["case_s"] > 0
    assert len(list(masks.glob("*_changes.json"))) == 6 and len(list(masks.glob("*_probability.nii.gz"))) == 12

    labels = small_cohort / "labelsTr"
    arguments = ("--predictions", masks, "--labels", labels, "--organs", ORGANS)
    code, said = medfm3d("evaluate", *arguments, "--json", scored, "--csv", tmp_path / "scores.csv")
    assert code == 0, said
    assert json.loads(scored.read_text())["n"] == 6 and len((tmp_path / "scores.csv").read_text().splitlines()) == 13

    # Where the ball was outlined in one case alone, it is scored there alone.
    listed = json.loads((small_cohort / "dataset.json").read_text())
    for entry in listed["training"][1:]:
        entry["annotated"] = ["cube"]
    (tmp_path / "dataset.json").write_text(json.dumps(listed))
    code, said = medfm3d("evaluate", *arguments[:-1], "cube=2,nobody=9")
    assert code == 0 and "no mask and no outline has nobody" in said
    code, said = medfm3d("evaluate", *arguments, "--cohort", tmp_path, "--json", scored)
    assert code == 0, said
    organs = [score["organ"] for score in json.loads(scored.read_text())["scores"]]
    assert organs.count("cube") == 6 and organs.count("ball") == 1
    swapped = ("--predictions", masks, "--labels", labels, "--organs", "cube=5,ball=2", "--cohort", tmp_path)
    code, said = medfm3d("evaluate", *swapped)
    assert code == 1 and "has cube=2, ball=5, not cube=5, ball=2" in said.replace("\n", " ")

    page = tmp_path / "report.html"
    images = ("--images", small_cohort / "imagesTr")
    code, said = medfm3d("report", *arguments, *images, "--bundle", bundle, "--output", page)
    assert code == 0, said
    assert "What priors changed" in page.read_text() and "not allowed to" not in page.read_text()


def test_watching_makes_masks_anew_once_and_writes_what_it_did(
    medfm3d, bundle: Path, small_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, masks = small_cohort / "imagesTr" / "case_1.nii.gz", tmp_path / "masks"
    options = ("--bundle", bundle, "--input", scan.parent, "--output", masks, "--json", tmp_path / "result.json")
    assert medfm3d("segment", *options)[0] == 0
    looks: list[int] = []

    def twice(path: Path, every_s: float, segment: Callable, output: Path) -> None:
        for _ in range(2):
            segment([scan])
            looks.append(json.loads((tmp_path / "result.json").read_text())["resumed"])

    monkeypatch.setattr("medfm3d.cli.segment.watch_folder", twice)
    assert medfm3d("segment", *options, "--watch", 1, "--again")[0] == 0
    assert looks == [0, 1]


def test_priors_change_only_what_they_list(medfm3d, bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    """A scan twice, side by side in one file: the second pair of organs is what priors do not expect."""
    scan = read_volume(read_cohort(small_cohort).cases[2].image)
    array = np.concatenate([scan.array, scan.array], axis=1)
    twice = write_volume(Volume(array, scan.affine), tmp_path / "twice.nii.gz")
    for name, options in (("plain", ()), ("cleaned", ("--apply-priors",))):
        result = tmp_path / f"{name}.json"
        output = ("--output", tmp_path / name, "--json", result)
        code, said = medfm3d("segment", "--bundle", bundle, "--input", twice, *output, *options)
        assert code == 0, said
    assert "removed twice: a piece of" in said
    changes = json.loads((tmp_path / "cleaned.json").read_text())["changes"]
    plain, cleaned = (read_label(tmp_path / name / "twice.nii.gz").array for name in ("plain", "cleaned"))
    assert json.loads((tmp_path / "plain.json").read_text())["changes"] == []
    assert {change["organ"] for change in changes} >= {"cube"} and all(c["case"] == "twice" for c in changes)
    assert (plain != cleaned).sum() == sum(change["voxels"] for change in changes) > 100
    assert (cleaned[plain != cleaned] == 0).all()


@pytest.mark.parametrize(("image", "label"), [("img{}", "label{}"), ("scan_000{}", "scan_000{}")])
def test_demo_on_a_cohort_of_other_names(medfm3d, small_cohort: Path, tmp_path: Path, image: str, label: str) -> None:
    entries = []
    for number in range(3):
        files = {"image": f"imagesTr/{image.format(number)}.nii.gz", "label": f"labelsTr/{label.format(number)}.nii.gz"}
        for kind, file in files.items():
            (tmp_path / "cohort" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(small_cohort / f"{kind}sTr" / f"case_{number}.nii.gz", tmp_path / "cohort" / file)
        entries.append(files)
    told = json.loads((small_cohort / "dataset.json").read_text()) | {"training": entries}
    (tmp_path / "cohort" / "dataset.json").write_text(json.dumps(told))
    output = tmp_path / "demo [it]"
    options = ("--k", 1, "--iterations", 19, "--method", "linear-probe", "--output", output)
    code, said = medfm3d("demo", "--data", tmp_path / "cohort", *options)
    assert code == 0 and f"bundle: {output}/bundle" in said, said
    assert read_card(output / "bundle")["iterations"] == 19
    page = (output / "report.html").read_text(encoding="utf-8")
    assert sum(image.format(number).removesuffix("_0000") in page for number in range(3)) >= 2


def test_info_describes_a_bundle(medfm3d, bundle: Path, tmp_path: Path) -> None:
    code, said = medfm3d("info", "--bundle", bundle, "--json", tmp_path / "info.json")
    assert code == 0 and "case_4" in said
    info = json.loads((tmp_path / "info.json").read_text())
    assert all((Path(folder) / "configs" / "metadata.json").is_file() for folder in info["bundles"].values())
    assert "fewshot_organ_segmentation" in info["bundles"]
    assert info["bundle"]["method"] == "decoder" and "box-adapter" in info["methods"] and info["device"] == "cpu"


def test_standard_output_is_the_result_and_nothing_else(bundle: Path, capsys: pytest.CaptureFixture) -> None:
    for command in (["info"], ["info", "--bundle", str(bundle)], ["data", "list"], ["weights", "list"]):
        with pytest.raises(SystemExit) as ended:
            app([*command, "--json", "-"])
        said = capsys.readouterr()
        assert not ended.value.code and json.loads(said.out) and said.err, command


def test_errors_of_the_user_end_with_1_and_one_line(medfm3d, bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    where = ("--images", small_cohort / "imagesTr", "--labels", small_cohort / "labelsTr")
    out, masks = ("--output", tmp_path / "out"), ("--output", tmp_path / "masks")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cut.nii.gz").write_bytes(b"\x1f\x8b\x08\x00")
    wrong = (
        (("adapt", *where, *out, "--organs", "cube"), "expected NAME=ID"),
        (("adapt", *where, *out, "--organs", "cube=2,ball=2"), "comes twice"),
        (("adapt", *where, *out, "--organs", ORGANS, "--cases", "case_0,nobody"), "has no case nobody"),
        (("adapt", *where, *out, "--organs", "cube=2,moon=7", "--cases", "case_0"), "moon not outlined here"),
        (("adapt", *where, "--output", small_cohort, "--organs", ORGANS), "already there"),
        (("segment", "--bundle", small_cohort, "--input", small_cohort, *out), "is not an adapted bundle"),
        (("segment", "--bundle", bundle, "--input", tmp_path / "nowhere", *out), "no such file or folder"),
        (("segment", "--bundle", bundle, "--input", tmp_path / "bad", *masks), "cut.nii.gz"),
        (
            ("segment", "--bundle", bundle, "--input", small_cohort / "imagesTr", *out, "--device", "tpu"),
            "unknown device",
        ),
        (("adapt", *where, "--output", small_cohort / "dataset.json" / "x", "--organs", ORGANS), "json: is a file"),
        (("segment", "--bundle", bundle, "--input", small_cohort, *masks, "--onnx", "x.onnx"), "x.onnx: no such file"),
        (("info", "--device", "cuda:99"), "is not there"),
        (("info", "--device", "tpu"), "unknown device"),
        (("demo", "--data", tmp_path / "nowhere", *out), "holds no dataset.json"),
        (("demo", "--data", small_cohort, *out, "--k", 6), "no labelled case is left"),
    )
    for arguments, message in wrong:
        code, said = medfm3d(*arguments)
        assert code == 1 and message in said.replace("\n", " ") and "Traceback" not in said, (arguments, said)
    assert not (tmp_path / "out").exists() and not list((tmp_path / "masks").glob("*.nii.gz"))
    code, said = medfm3d("adapt", *where, *out, "--organs", ORGANS, "--method", "magic")
    assert code == 2 and "magic" in said


def test_every_sub_command_takes_the_common_options(medfm3d) -> None:
    commands = [("demo",), ("pretrain",), ("adapt",), ("segment",), ("evaluate",), ("report",), ("info",)]
    for command in [*commands, ("data", "list"), ("data", "fetch"), ("data", "check")]:
        code, said = medfm3d(*command, "--help")
        assert code == 0 and all(option in said for option in ("--device", "--seed", "--json")), command
