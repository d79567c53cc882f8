"""Folders become cohorts: Decathlon, nnU-Net, and plain folders of images and label maps."""

import json
from pathlib import Path

import pytest

from medfm3d.cohorts import CohortError, cohort_from_folders, read_cohort


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def dataset(folder: Path, **content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    labels = {"0": "background", "1": "liver", "2": "spleen"}
    (folder / "dataset.json").write_text(json.dumps({"name": "Own", "labels": labels} | content))
    return folder


def pairs(cohort) -> dict[str, tuple[str, str | None]]:
    return {case.name: (case.image.name, case.label and case.label.name) for case in cohort}


def test_decathlon_layout(tmp_path):
    touch(tmp_path / "imagesTr", "a.nii.gz", "b_0000.nii.gz")
    touch(tmp_path / "labelsTr", "a.nii.gz", "b.nii.gz")
    touch(tmp_path / "imagesTs", "c.nii.gz")
    first = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz", "annotated": ["liver"]}
    second = {"image": "imagesTr/b_0000.nii.gz", "label": "labelsTr/b.nii.gz", "suspect": ["spleen"]}
    cohort = read_cohort(dataset(tmp_path, training=[first, second], test=["./imagesTs/c.nii.gz"]))
    assert (cohort.name, cohort.names, cohort.organs) == ("Own", ("a", "b", "c"), {"liver": 1, "spleen": 2})
    a, b, c = cohort
    assert a.image == tmp_path / "imagesTr/a.nii.gz" and a.label == tmp_path / "labelsTr/a.nii.gz"
    assert a.outlines("liver") and not a.outlines("spleen")
    assert b.outlines("spleen") and b.suspect == ("spleen",)
    assert c.label is None and not c.outlines("liver")


def test_nnunet_layout(tmp_path):
    touch(tmp_path / "imagesTr", "a_0000.nii.gz", "b_0000.nii.gz")
    touch(tmp_path / "labelsTr", "a.nii.gz", "b.nii.gz")
    touch(tmp_path / "imagesTs", "c_0000.nii.gz")
    content = {"labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    cohort = read_cohort(dataset(tmp_path, channel_names={"0": "CT"}, **content))
    assert cohort.organs == {"liver": 1}
    assert pairs(cohort) == {
        "a": ("a_0000.nii.gz", "a.nii.gz"),
        "b": ("b_0000.nii.gz", "b.nii.gz"),
        "c": ("c_0000.nii.gz", None),
    }
    with pytest.raises(CohortError, match="only one channel"):
        read_cohort(dataset(tmp_path, channel_names={"0": "T1", "1": "T2"}, **content))


def test_folders_are_matched_by_name_whatever_the_suffix(tmp_path):
    images = touch(tmp_path / "images", "a.nii.gz", "b.mha", "case_0000.nii.gz", "d.nii", ".hidden.nii", "notes.txt")
    labels = touch(tmp_path / "labels", "a.nrrd", "b.nii.gz", "case.nii.gz")
    cohort = cohort_from_folders(images, labels, organs={"liver": 3})
    assert cohort.organs == {"liver": 3}
    assert pairs(cohort) == {
        "a": ("a.nii.gz", "a.nrrd"),
        "b": ("b.mha", "b.nii.gz"),
        "case": ("case_0000.nii.gz", "case.nii.gz"),
        "d": ("d.nii", None),
    }


def test_images_alone(tmp_path):
    assert pairs(cohort_from_folders(touch(tmp_path / "x", "a.nrrd"))) == {"a": ("a.nrrd", None)}
    assert cohort_from_folders(touch(tmp_path / "y", "a_0000.nii", "b_0000.nii")).names == ("a", "b")


def test_scans_that_are_numbered_with_four_digits_are_no_channels(tmp_path):
    images = touch(tmp_path / "images", "scan_0000.nii", "scan_0001.nii")
    assert cohort_from_folders(images).names == ("scan_0000", "scan_0001")
    labels = touch(tmp_path / "labels", "scan_0000.nii", "scan_0001.nii")
    assert cohort_from_folders(images, labels).names == ("scan_0000", "scan_0001")
    with pytest.raises(CohortError, match="only one channel"):
        cohort_from_folders(images, touch(tmp_path / "nnunet", "scan.nii"))


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (["a.nii"], ["a.nii", "b.nii"], "1 label maps have no image in"),
        (["a.nii", "a.nrrd"], ["a.nii"], "several files are named a"),
        (["a.nii", "a_0000.nii"], ["a.nii"], None),
        (["notes.txt"], ["a.nii"], "holds no volume"),
    ],
)
def test_folders_that_do_not_match(tmp_path, images, labels, told):
    folders = touch(tmp_path / "images", *images), touch(tmp_path / "labels", *labels)
    if told is None:
        assert cohort_from_folders(*folders).names == ("a", "a_0000")
        return
    with pytest.raises(CohortError, match=told) as caught:
        cohort_from_folders(*folders)
    assert str(tmp_path) in str(caught.value)


def test_missing_folder(tmp_path):
    with pytest.raises(CohortError, match="is not a folder"):
        cohort_from_folders(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, "neither a list training"),
        ({"training": [{"image": "a.nii"}], "labels": {}}, "has no labels"),
        ({"training": [{"image": "a.nii"}], "labels": {"liver": [1, 2]}}, "regions are not read"),
        ({"training": [{"image": "a.nii"}], "labels": {"liver": 1, "spleen": 1}}, "share one value"),
        ({"training": [{"label": "a.nii"}]}, "at least an image"),
        ({"training": [{"image": "../a.nii"}]}, "leaves the cohort's folder"),
        ({"training": [{"image": "/a.nii"}]}, "leaves the cohort's folder"),
        ({"training": [{"image": "a.nii", "annotated": "liver"}]}, "must be lists"),
        ({"training": [{"image": "a.nii"}, {"image": "x/a.nii"}]}, "several cases are named a"),
        ({"training": [{"image": "a.nii"}]}, "1 of the files it lists do not exist"),
    ],
)
def test_faulty_dataset_json_is_refused(tmp_path, content, told):
    with pytest.raises(CohortError, match=told):
        read_cohort(dataset(tmp_path, **content))


def test_label_maps_of_cases_that_are_not_named_need_no_image(tmp_path):
    images, labels = touch(tmp_path / "images", "a.nii"), touch(tmp_path / "labels", "a.nii", "b.nii")
    assert cohort_from_folders(images, labels, names=["a"]).names == ("a",)
    with pytest.raises(CohortError, match=r"1 label maps have no image .*b\.nii"):
        cohort_from_folders(images, labels, names=["a", "b"])


def test_volumes_one_folder_down_are_pointed_at(tmp_path):
    touch(tmp_path / "case_1", "ct.nii.gz")
    with pytest.raises(CohortError, match=r"holds no volume \(case_1 in it does: put one file a case into one folder"):
        cohort_from_folders(tmp_path)


def test_no_or_broken_dataset_json(tmp_path):
    with pytest.raises(CohortError, match=r"dataset\.json: does not exist"):
        read_cohort(tmp_path)
    (tmp_path / "dataset.json").write_text("[")
    with pytest.raises(CohortError, match="not valid JSON"):
        read_cohort(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(CohortError, match="not an object"):
        read_cohort(tmp_path)


def test_manifest_gives_its_own_names_also_to_what_was_annotated(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    names = json.loads((Path(__file__).parents[2] / "data_manifests/amos22.json").read_text())["labels"]
    case = {"image": "a.nii", "label": "b.nii", "annotated": ["arota"]}
    cohort = read_cohort(dataset(tmp_path, training=[case], labels=names | {"8": "arota"}), "amos22")
    assert cohort.cases[0].outlines("aorta") and not cohort.cases[0].outlines("liver")
    with pytest.raises(CohortError, match="has no split 'test'"):
        cohort.split("test")
    with pytest.raises(CohortError, match="not those of the manifest"):
        read_cohort(dataset(tmp_path, training=[case], labels=names | {"6": "lung"}), "amos22")


def test_organs_go_by_the_names_that_the_user_gives_them(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    case = {"image": "a.nii", "label": "b.nii", "annotated": ["liver"], "suspect": ["liver"]}
    cohort = read_cohort(dataset(tmp_path, training=[case]))
    named = cohort.with_organs({"Leber": 1})
    assert named.organs == {"Leber": 1, "spleen": 2} and named.cases[0].suspect == ("Leber",)
    assert named.cases[0].outlines("Leber") and not named.cases[0].outlines("spleen")
    assert cohort.with_organs(cohort.organs) == cohort
    with pytest.raises(CohortError, match="has spleen=2, not spleen=1"):
        cohort.with_organs({"spleen": 1})
    with pytest.raises(CohortError, match="no label value of kidney=3: it has liver=1, spleen=2"):
        cohort.with_organs({"kidney": 3})


def test_label_ignore_of_nnunet_is_no_organ(tmp_path):
    content = {"labels": {"background": 0, "liver": 1, "ignore": 2}, "file_ending": ".nii"}
    with pytest.raises(CohortError, match="label ignore"):
        read_cohort(dataset(tmp_path, **content))


def test_select_without_and_split(tmp_path):
    cohort = cohort_from_folders(touch(tmp_path, "a.nii", "b.nii", "c.nii"))
    assert cohort.select(["c", "a"]).names == ("c", "a")
    assert cohort.without(["b", "unknown"]).names == ("a", "c")
    with pytest.raises(CohortError, match="has no case d"):
        cohort.select(["d"])
    with pytest.raises(CohortError, match="several cases are named a"):
        cohort.select(["a", "a"])
    with pytest.raises(CohortError, match="without a manifest"):
        cohort.split("test")


@pytest.mark.parametrize(
    ("name", "manifest"), [("hippocampus", "msd_hippocampus"), ("headneck_ct", "openkbp_headneck")]
)
def test_real_cohorts(real_data, name, manifest):
    cohort = read_cohort(real_data / name, manifest)
    assert len(cohort) == {"hippocampus": 200, "headneck_ct": 60}[name]
    assert all(case.label is not None for case in cohort)
    assert not set(cohort.split("test").names) & set(cohort.split("development").names)
    folders = cohort_from_folders(real_data / name / "imagesTr", real_data / name / "labelsTr")
    assert pairs(folders) == pairs(cohort)


def test_real_head_and_neck_says_what_was_outlined(real_data):
    cohort = read_cohort(real_data / "headneck_ct")
    outlined = {organ: sum(case.outlines(organ) for case in cohort) for organ in cohort.organs}
    assert outlined["Esophagus"] == 24 and outlined["Larynx"] == 27 and outlined["Mandible"] == 60
    assert [case.name for case in cohort if "Larynx" in case.suspect] == ["pt_236"]
