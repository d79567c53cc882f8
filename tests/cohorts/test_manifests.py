"""Every manifest that comes with the package is valid, and says what it must."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from medfm3d.cohorts import ManifestError, list_manifests, load_manifest, manifest_folder
from medfm3d.cohorts import manifest as manifest_module

MANIFESTS = {manifest.name: manifest for manifest in list_manifests()}
NUM_ORGANS = {
    "abdomenatlas": 25,
    "amos22": 15,
    "btcv": 13,
    "chaos": 4,
    "flare22": 13,
    "million_veteran_program": 0,
    "msd_hippocampus": 2,
    "msd_liver": 2,
    "msd_pancreas": 2,
    "msd_spleen": 1,
    "nako": 0,
    "openkbp_headneck": 7,
    "openmind": 0,
    "totalsegmentator_ct": 117,
    "totalsegmentator_mr": 50,
    "uk_biobank": 0,
}


def minimal() -> dict:
    return {
        "id": "own",
        "name": "Own",
        "description": "d",
        "licence": {"name": "internal"},
        "citation": [{"text": "t"}],
        "source": {"homepage": "https://example.org", "access": "application", "how_to_get": "Ask."},
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "2": "liver", "10": "spleen"},
        "numTraining": 1,
        "numTest": 0,
        "splits": {},
    }


def write(folder: Path, content: object) -> Path:
    path = folder / "own.json"
    path.write_text(json.dumps(content))
    return path


def test_every_cohort_has_its_organs():
    assert {name: len(MANIFESTS[name].organs) for name in NUM_ORGANS} == NUM_ORGANS


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_manifest_says_how_to_get_the_scans_and_under_which_licence(manifest):
    assert manifest.path.stem == manifest.name
    assert manifest.licence and manifest.citations and manifest.homepage.startswith("http")
    assert manifest.downloads or manifest.how_to_get
    assert (manifest.access == "open") >= bool(manifest.downloads)


@pytest.mark.parametrize(
    ("cohort", "organs"),
    [
        ("btcv", {"spleen": 1, "right kidney": 2, "liver": 6, "portal vein and splenic vein": 10, "pancreas": 11}),
        ("amos22", {"spleen": 1, "liver": 6, "pancreas": 10, "duodenum": 13, "prostate/uterus": 15}),
        ("flare22", {"liver": 1, "right kidney": 2, "pancreas": 4, "left kidney": 13}),
        ("totalsegmentator_ct", {"spleen": 1, "vertebrae_C1": 50, "brain": 90, "costal_cartilages": 117}),
        ("totalsegmentator_mr", {"spleen": 1, "vertebrae": 19, "brain": 50}),
        ("chaos", {"liver": 63, "right kidney": 126, "left kidney": 189, "spleen": 252}),
        ("abdomenatlas", {"aorta": 1, "postcava": 7, "rectum": 25}),
    ],
)
def test_label_values(cohort, organs):
    assert organs.items() <= MANIFESTS[cohort].organs.items()


def test_totalsegmentator_labels_are_those_of_the_tool(real_data):
    names = json.loads((real_data / "totalsegmentator_example" / "labels.json").read_text())
    for task, cohort in (("total", "totalsegmentator_ct"), ("total_mr", "totalsegmentator_mr")):
        assert MANIFESTS[cohort].organs == {name: int(value) for value, name in names[task].items()}


def test_decathlon_checksums_are_those_of_monai():
    from monai.apps import DecathlonDataset

    for name, task in (
        ("msd_hippocampus", "Task04_Hippocampus"),
        ("msd_spleen", "Task09_Spleen"),
        ("msd_pancreas", "Task07_Pancreas"),
        ("msd_liver", "Task03_Liver"),
    ):
        (download,) = MANIFESTS[name].downloads
        assert download.url == DecathlonDataset.resource[task]
        assert download.checksum == f"md5:{DecathlonDataset.md5[task]}"


@pytest.mark.parametrize(
    ("cohort", "folder", "num_test", "digest"),
    [
        ("msd_hippocampus", "hippocampus", 100, "a93ec17c2751cb1a0bbc909cb9fa6ba8fbeb65354337332cc6ec0d49a4089d02"),
        ("openkbp_headneck", "headneck_ct", 30, "65163f183f2dc069055e1cb4131e7750a13a5c52c137c97f7b47f5cd48e6cadd"),
    ],
)
def test_fixed_splits_never_change(cohort, folder, num_test, digest, real_data):
    splits = MANIFESTS[cohort].splits
    assert hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest() == digest
    listed = json.loads((real_data / folder / "dataset.json").read_text())["training"]
    names = sorted(Path(entry["image"]).name.removesuffix(".nii.gz") for entry in listed)
    drawn = np.random.default_rng(20261124).permutation(names)[:num_test]
    assert splits["test"] == tuple(sorted(drawn))
    assert sorted(splits["test"] + splits["development"]) == names


def test_own_manifest_by_path_keeps_label_order(tmp_path):
    manifest = load_manifest(write(tmp_path, minimal()))
    assert manifest.organs == {"liver": 2, "spleen": 10}
    assert list(manifest.labels) == [0, 2, 10]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"licence": None}, "licence"),
        ({"labels": {"1": "liver"}}, "'0' is a required property"),
        ({"labels": {"0": "background", "1": "liver", "2": "liver"}}, "'liver' is given to several values"),
        ({"splits": {"test": ["a"], "development": ["a"]}}, "case 'a' is in 'test' and in 'development'"),
        ({"label_aliases": {"hepar": "livre"}}, "'livre' is no label"),
        ({"colour": "blue"}, "colour"),
        ({"source": {"homepage": "https://e.org", "access": "registration"}}, "source"),
        ({"source": {"homepage": "https://e.org", "access": "open"}}, "source"),
    ],
)
def test_faulty_manifest_is_refused_by_name(tmp_path, change, told):
    path = write(tmp_path, minimal() | change)
    with pytest.raises(ManifestError, match=re.escape(told)) as caught:
        load_manifest(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("checksum", ["md5:abc", "d41d8cd98f00b204e9800998ecf8427e", "crc:00000000"])
def test_unreadable_checksum_is_refused(tmp_path, checksum):
    download = {"url": "https://e.org/a.tar", "filename": "a.tar", "checksum": checksum}
    source = {"homepage": "https://e.org", "access": "open", "downloads": [download]}
    with pytest.raises(ManifestError, match="checksum"):
        load_manifest(write(tmp_path, minimal() | {"source": source}))


def test_unknown_checksum_needs_a_note(tmp_path):
    download = {"url": "https://e.org/a.tar", "filename": "a.tar", "checksum": None}
    source = {"homepage": "https://e.org", "access": "open", "downloads": [download]}
    with pytest.raises(ManifestError, match="checksum_note"):
        load_manifest(write(tmp_path, minimal() | {"source": source}))


def test_file_name_of_a_download_cannot_leave_the_folder(tmp_path):
    download = {"url": "https://e.org/a.tar", "filename": "../a.tar", "checksum": None, "checksum_note": "none"}
    source = {"homepage": "https://e.org", "access": "open", "downloads": [download]}
    with pytest.raises(ManifestError, match="filename"):
        load_manifest(write(tmp_path, minimal() | {"source": source}))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ManifestError, match="msd_hippocampus"):
        load_manifest("msd_hipocampus")


def test_broken_json_and_missing_file_name_the_file(tmp_path):
    path = tmp_path / "own.json"
    with pytest.raises(ManifestError, match=re.escape(str(path))):
        load_manifest(path)
    path.write_text("{")
    with pytest.raises(ManifestError, match="not valid JSON"):
        load_manifest(path)


def test_manifests_of_an_installed_package_are_found(tmp_path, monkeypatch):
    installed = tmp_path / "medfm3d" / "_data_manifests"
    (installed / "schema").mkdir(parents=True)
    (installed / "schema" / "manifest.schema.json").write_text("{}")
    monkeypatch.setattr(manifest_module, "_INSTALLED_FOLDER", installed)
    monkeypatch.setattr(manifest_module, "_CHECKOUT_FOLDER", tmp_path / "data_manifests")
    assert manifest_folder() == installed
    (installed / "schema" / "manifest.schema.json").unlink()
    with pytest.raises(ManifestError, match="install medfm3d again"):
        manifest_folder()


def test_readme_example_is_a_valid_manifest(tmp_path):
    readme = (manifest_folder() / "README.md").read_text()
    example = json.loads(readme.split("```json")[1].split("```")[0])
    assert load_manifest(write(tmp_path, example)).organs == {"left kidney": 1, "right kidney": 2}
