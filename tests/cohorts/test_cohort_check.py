"""A check reads everything, and lists all that is wrong with a cohort, not the first fault alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medfm3d.cohorts import CohortReport, check_cohort
from medfm3d.volumes import Volume, write_volume


def faults(report: CohortReport) -> dict[str | None, str]:
    return {finding.case: finding.message for finding in report.faults}


def remarks(report: CohortReport) -> dict[str | None, str]:
    return {finding.case: finding.message for finding in report.remarks}


def dataset(folder: Path, *training: dict, **content: object) -> Path:
    labels = {"0": "background", "1": "liver", "2": "spleen"}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "training": list(training)} | content))
    return folder


def entry(name: str, **others: object) -> dict:
    return {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} | others


@pytest.fixture
def folder(tmp_path, write_case) -> Path:
    for name in "abcd":
        write_case(tmp_path / f"imagesTr/{name}.nii.gz", tmp_path / f"labelsTr/{name}.nii.gz", {1: 20, 2: 10})
    return tmp_path


def test_sound_cohort_with_and_without_dataset_json(folder):
    report = check_cohort(folder)
    assert report == CohortReport(folder, 4, 4, (), ()) and report.ok
    assert check_cohort(dataset(folder, *map(entry, "abcd"))) == report
    for part in ("images", "labels"):
        (folder / f"{part}Tr").rename(folder / part)
    (folder / "dataset.json").unlink()
    assert check_cohort(folder) == report
    assert check_cohort(folder / "images") == CohortReport(folder / "images", 4, 0, (), ())


def test_all_faults_are_listed(folder, write_case):
    (folder / "imagesTr/a.nii.gz").write_bytes(b"")
    write_case(folder / "x/b.nii.gz", folder / "labelsTr/b.nii.gz", {1: 5, 7: 5})
    write_volume(Volume(np.ones((9, 10, 10), np.uint8), np.eye(4)), folder / "labelsTr/c.nii.gz")
    (folder / "labelsTr/d.nii.gz").unlink()
    report = check_cohort(dataset(folder, *map(entry, "abcd")))
    found = faults(report)
    assert not report.ok and list(found) == ["a", "b", "c", "d"]
    assert "imagesTr/a.nii.gz: is empty" in found["a"]
    assert "labelsTr/b.nii.gz" in found["b"] and "[7]" in found["b"]
    assert "labelsTr/c.nii.gz" in found["c"] and "9 x 10 x 10" in found["c"]
    assert "labelsTr/d.nii.gz: no such file" in found["d"]
    assert json.loads(json.dumps(report.as_dict()))["faults"][0]["case"] == "a"


def test_label_map_without_image_does_not_hide_the_rest(folder):
    (folder / "imagesTr/a.nii.gz").unlink()
    (folder / "imagesTr/b.nii.gz").write_bytes(b"")
    found = faults(check_cohort(folder))
    assert set(found) == {None, "b"} and "labelsTr/a.nii.gz: this label map has no image" in found[None]


def test_outlines_that_contradict_the_list_are_remarked_upon(folder, write_case):
    write_case(folder / "x/a.nii.gz", folder / "labelsTr/a.nii.gz", {1: 20})
    report = check_cohort(
        dataset(
            folder,
            entry("a", annotated=["liver", "spleen"]),
            entry("b", annotated=["liver"]),
            entry("c", suspect=["spleen"]),
            entry("d", annotated=["liver", "spleen", "kidney"]),
        )
    )
    found = remarks(report)
    assert report.ok and list(found) == ["a", "b", "c", "d"]
    assert "spleen is said to be outlined, but no voxel has its value 2" in found["a"]
    assert "spleen is not said to be outlined" in found["b"]
    assert "doubts the outline of spleen" in found["c"]
    assert "kidney is said to be outlined, but is no label" in found["d"]


def test_missing_label_maps_and_odd_sizes_are_remarked_upon(folder):
    (folder / "labelsTr/a.nii.gz").unlink()
    shutil.copy(folder / "labelsTr/c.nii.gz", folder / "imagesTr/c.nii.gz")
    large = Volume(np.arange(27000, dtype=np.float32).reshape(30, 30, 30), np.diag([1.0, 1.0, 2.0, 1.0]))
    write_volume(large, folder / "imagesTr/e.nii.gz")
    found = remarks(check_cohort(folder))
    assert found[None] == "2 of 5 cases have no label map, such as a"
    assert "holds only 3 different values" in found["c"]
    assert found["e"] == "its field of view has 54 mL, the cohort's median is 2"


@pytest.mark.parametrize(
    ("content", "manifest", "told"),
    [("{", None, "not valid JSON"), (None, "msd_liver", "does not exist"), ("", "no_such", "not valid JSON")],
)
def test_folder_that_cannot_be_opened_is_one_fault(folder, content, manifest, told):
    if content is not None:
        (folder / "dataset.json").write_text(content)
    report = check_cohort(folder, manifest)
    assert not report.ok and report.num_cases == 0 and told in faults(report)[None]


def test_manifest_is_compared(folder):
    report = check_cohort(dataset(folder, *map(entry, "abcd")), "msd_hippocampus")
    assert "not those of the manifest msd_hippocampus" in faults(report)[None]
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    report = check_cohort(dataset(folder, *map(entry, "abcd"), labels=labels), "msd_hippocampus")
    assert report.ok and "100 of 100 cases of the split test are missing" in report.remarks[0].message


def test_real_bad_inputs(real_data):
    report = check_cohort(real_data / "bad_inputs")
    assert set(faults(report)) == {"empty_file"} and "is empty (0 bytes)" in faults(report)["empty_file"]
    told = [(finding.case, finding.message) for finding in report.remarks]
    assert [case for case, message in told if "a label map?" in message] == [
        "hippocampus_010_label_without_image",
        "label_512x512x94",
    ]
    assert [case for case, message in told if "field of view" in message] == ["label_512x512x94"]


def test_real_bad_inputs_as_label_maps(real_data, tmp_path):
    bad = real_data / "bad_inputs"
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    links = {
        "images/a.nii.gz": "hippocampus_118_image_without_label.nii.gz",
        "labels/a.nii.gz": "label_512x512x94.nii.gz",
        "images/b.nii.gz": "hippocampus_118_image_without_label.nii.gz",
        "labels/b.nii.gz": "empty_file.nii.gz",
        "images/c.nii.gz": "hippocampus_118_image_without_label.nii.gz",
        "labels/d.nii.gz": "hippocampus_010_label_without_image.nii.gz",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(bad / target)
    report = check_cohort(tmp_path)
    found = faults(report)
    assert set(found) == {None, "a", "b"}
    assert "512 x 512 x 94" in found["a"] and "37 x 52 x 33" in found["a"]
    assert "is empty" in found["b"] and "d.nii.gz: this label map has no image" in found[None]
    assert remarks(report)[None] == "1 of 3 cases have no label map, such as c"


def test_real_cohort_is_sound_but_for_one_suspect_outline(real_data):
    report = check_cohort(real_data / "headneck_ct", "openkbp_headneck")
    assert report.ok and (report.num_cases, report.num_labelled) == (60, 60)
    assert [finding.case for finding in report.remarks] == ["pt_236"]
