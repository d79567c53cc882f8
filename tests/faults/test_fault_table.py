"""Every row of the fault table, provoked."""

import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from fault import Fault
from nifti_faults import AFFINE, save, voxels
from run_faults import Place
from table import DAMAGED, FOLDERS, MISHAPS, OUTLINES, SCANS, SECTIONS, WARNED, page

from medfm3d.cli.segment import run_segmentation
from medfm3d.volumes import VolumeError, VolumeWarning, read_label

GOOD = ("first", "last")
ODD_NAMES = (
    "Müller 患者 №7",
    "two\nlines",
    "[bold] [1]",
    "-output",
    "$(touch harm); `x` 'y' \"z\" %s {0}",
    "x" * 215,
    os.fsdecode(b"not utf-8 \xff\xfe"),
)
TOO_LONG = "x" * 240


def named(fault: Fault) -> str:
    return fault.name


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory, sound_bundle: Path) -> tuple[Path, dict, list]:
    """All faulty scans in one batch, between good ones and such with odd names."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "scans").mkdir()
    faulty = [folder / "scans" / fault.file_name for fault in (*SCANS.faults, *WARNED.faults)]
    for fault, path in zip((*SCANS.faults, *WARNED.faults), faulty, strict=True):
        fault.provoke(path)
    good = [folder / "scans" / f"{name}.nii.gz" for name in (*GOOD, *ODD_NAMES, TOO_LONG)]
    for path in good:
        save(path, voxels())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        inputs = [good[0], *faulty, *good[1:]]
        result = run_segmentation(sound_bundle, folder / "scans", folder / "masks", inputs=inputs, device="cpu")
    return folder, result, [str(one.message) for one in warned if issubclass(one.category, VolumeWarning)]


@pytest.mark.parametrize("fault", SCANS.faults, ids=named)
def test_a_faulty_scan_is_named_and_has_no_mask(fault: Fault, batch) -> None:
    folder, result, _ = batch
    path = folder / "scans" / fault.file_name
    error = result["failed"][str(path)]
    assert re.match(r"VolumeError: .*\S; \S", error, re.DOTALL), error
    assert str(path) in error and fault.says in error, error
    assert not list((folder / "masks").glob(f"{fault.file_name.split('.')[0]}.*"))


@pytest.mark.parametrize("fault", WARNED.faults, ids=named)
def test_a_doubtful_scan_is_segmented_with_a_warning(fault: Fault, batch) -> None:
    folder, _, warned = batch
    path = folder / "scans" / fault.file_name
    assert [text for text in warned if str(path) in text and fault.says in text]
    assert read_label(folder / "masks" / path.name).shape == voxels().shape


@pytest.mark.parametrize("name", (*GOOD, *ODD_NAMES), ids=ascii)
def test_the_others_go_on_whatever_their_names(name: str, batch) -> None:
    folder, _, _ = batch
    mask = read_label(folder / "masks" / f"{name}.nii.gz")
    assert mask.shape == voxels().shape
    np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-5)
    summary = (folder / "masks" / "summary.csv").read_bytes().decode(errors="surrogateescape")
    assert name in summary.replace('""', '"')


def test_a_name_that_is_too_long_is_told_and_nothing_is_left_lying_about(batch) -> None:
    folder, result, _ = batch
    assert len(result["failed"]) == len(SCANS.faults) + 1
    assert "its name has over 215 bytes" in result["failed"][str(folder / "scans" / f"{TOO_LONG}.nii.gz")]
    assert not [path.name for path in (folder / "masks").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("fault", OUTLINES.faults, ids=named)
def test_a_faulty_label_map_is_refused(fault: Fault, tmp_path: Path) -> None:
    path = tmp_path / fault.file_name
    with pytest.raises(VolumeError, match=re.escape(fault.says)) as caught:
        fault.provoke(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("fault", DAMAGED.faults, ids=named)
def test_a_damaged_bundle_is_named(fault: Fault, medfm3d, sound_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(sound_bundle, tmp_path / "bundle", copy_function=os.link)
    words = fault.provoke(tmp_path / "bundle")
    save(tmp_path / "scan.nii.gz", voxels())
    command = ("segment", "--bundle", tmp_path / "bundle", "--input", tmp_path / "scan.nii.gz", "--output")
    code, said = medfm3d(*command, tmp_path / "masks", *words)
    assert code == 1 and fault.says in " ".join(said.split()) and "Traceback" not in said, said
    assert not list(tmp_path.glob("masks/*.nii.gz"))


@pytest.mark.parametrize("fault", (*FOLDERS.faults, *MISHAPS.faults), ids=named)
def test_a_mishap_is_told_and_loses_nothing(
    fault: Fault, medfm3d, sound_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = fault.provoke(Place(tmp_path, sound_bundle, medfm3d, monkeypatch))
    assert fault.says in " ".join(said.split()) and "Traceback" not in said, said


def test_the_page_shows_the_table(repository: Path) -> None:
    assert (repository / "docs" / "faults.md").read_text(encoding="utf-8") == page(), (
        "run: python tests/faults/table.py > docs/faults.md"
    )


def test_the_table_is_long_enough_and_names_are_distinct() -> None:
    names = [fault.name for section in SECTIONS for fault in section.faults]
    assert len(names) >= 40 and len(set(names)) == len(names)
    assert all(fault.says for section in SECTIONS for fault in section.faults)
