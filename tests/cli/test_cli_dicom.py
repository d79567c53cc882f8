"""`medfm3d segment --output-format` on a tree of DICOM series, and `medfm3d convert`."""

import json
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import write_series

from medfm3d.volumes import Volume, read_label, read_volume, reorient, write_volume
from medfm3d.volumes.dicom_labels import MadeBy, read_dicom_labels, write_dicom_labels

ORGANS = {"cube": 2, "ball": 5}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, small_cohort: Path) -> Path:
    """Two series in folders of their patients, with the outlines of an earlier plan beside the slices of one."""
    folder = tmp_path_factory.mktemp("archive")
    for name, backwards in (("case_1", False), ("case_3", True)):
        scan = reorient(read_volume(small_cohort / "imagesTr" / f"{name}.nii.gz"), "LPS")
        write_series(folder / f"patient_{name}" / name, np.rint(scan.array), scan.spacing_mm, backwards=backwards)
    return folder


@pytest.mark.parametrize("kind, suffix", [("dicom-seg", ".seg.dcm"), ("rtstruct", ".rtstruct.dcm")])
def test_a_tree_of_series_is_segmented_into_dicom(
    medfm3d, bundle: Path, tree: Path, tmp_path: Path, kind: str, suffix: str
) -> None:
    common = ("segment", "--bundle", bundle, "--input", tree)
    code, said = medfm3d(*common, "--output", tmp_path / "nifti")
    assert code == 0, said
    arguments = (*common, "--output", tmp_path / kind, "--output-format", kind, "--json", tmp_path / "result.json")
    code, said = medfm3d(*arguments)
    assert code == 0, said
    assert "no code of SNOMED CT is known here for cube, ball" in said
    result = json.loads((tmp_path / "result.json").read_text())
    assert [Path(mask).name for mask in result["masks"]] == [f"case_1{suffix}", f"case_3{suffix}"]
    for name in ("case_1", "case_3"):
        series = tree / f"patient_{name}" / name
        expected = read_label(tmp_path / "nifti" / f"{name}.nii.gz")
        masks = read_dicom_labels(tmp_path / kind / f"{name}{suffix}", series)
        assert dict(masks.values) == ORGANS
        assert expected.array.any()
        np.testing.assert_array_equal(masks.label_map().array, expected.array)
        written = pydicom.dcmread(tmp_path / kind / f"{name}{suffix}")
        assert (written.ManufacturerModelName, written.Manufacturer) == ("cube and ball", "medfm3d")

    code, said = medfm3d(*arguments)  # what is there is kept
    assert code == 0 and "2 of them from before" in said
    (tmp_path / kind / f"case_3{suffix}").unlink()
    code, said = medfm3d(*arguments)
    assert code == 0 and "1 of them from before" in said
    assert (tmp_path / kind / f"case_3{suffix}").is_file()
    assert list((tmp_path / kind).glob(".*")) == []


def test_a_nifti_scan_has_no_series_and_the_others_go_on(
    medfm3d, bundle: Path, tree: Path, small_cohort: Path, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a.nii.gz").symlink_to(small_cohort / "imagesTr" / "case_0.nii.gz")
    (scans / "b").symlink_to(tree / "patient_case_1" / "case_1")
    code, said = medfm3d(
        *("segment", "--bundle", bundle, "--input", scans, "--output", tmp_path / "out"),
        *("--output-format", "rtstruct", "--uncertainty", "--probabilities"),
    )
    assert code == 1
    assert "a.nii.gz: is no DICOM series" in said and "write NIfTI" in said
    # which shows label maps, not DICOM outlines
    assert "medfm3d view" not in (tmp_path / "out" / "summary.html").read_text(encoding="utf-8")
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.endswith((".dcm", ".nii.gz")))
    assert names == [
        "b.rtstruct.dcm",
        *[f"b_{part}.nii.gz" for part in ("ball_probability", "cube_probability", "uncertainty")],
    ]


@pytest.fixture
def convert(command_line):
    """Run `medfm3d convert --NAME VALUE ...` and return its exit code and all that it printed."""

    def run(**options: object) -> tuple[int, str]:
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        return command_line("convert", *words)

    return run


def test_masks_go_to_dicom_and_back(convert, tree: Path, tmp_path: Path) -> None:
    series = tree / "patient_case_3" / "case_3"
    scan = read_volume(series)
    labels = np.zeros(scan.shape, dtype=np.uint8)
    labels[4:12, 5:14, 3:9], labels[6:8, 7:10, 4:8], labels[20:25, 9:20, 2:7] = 3, 0, 8
    mask = write_volume(reorient(Volume(labels, scan.affine), "PIR"), tmp_path / "mask.nrrd")
    named = {"organs": "Parotid_L=3,liver=8", "series": series}
    code, said = convert(mask=mask, output=tmp_path / "a.seg.dcm", made_by="tool=1.2", **named)
    assert code == 0 and "SNOMED" not in said, said
    # from one DICOM format to the other, and back to a label map, of all organs and of one under another id
    code, said = convert(mask=tmp_path / "a.seg.dcm", series=series, output=tmp_path / "a.rtstruct.dcm", made_by="hand")
    assert code == 0 and "Parotid_L=3,liver=8" in said, said
    code, said = convert(mask=tmp_path / "a.rtstruct.dcm", series=series, output=tmp_path / "back.nii.gz")
    assert code == 0, said
    back = read_label(tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(back.array, labels)
    np.testing.assert_allclose(back.affine, scan.affine, atol=1e-5)
    convert(mask=tmp_path / "a.rtstruct.dcm", series=series, output=tmp_path / "one.mha", organs="parotid_l=1")
    np.testing.assert_array_equal(read_label(tmp_path / "one.mha").array, labels == 3)
    assert pydicom.dcmread(tmp_path / "a.seg.dcm").SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert pydicom.dcmread(tmp_path / "a.rtstruct.dcm").StructureSetROISequence[0].ROIGenerationAlgorithm == "MANUAL"


def test_what_convert_cannot_do_is_said(convert, tree: Path, small_cohort: Path, tmp_path: Path) -> None:
    series, label = tree / "patient_case_1" / "case_1", small_cohort / "labelsTr" / "case_1.nii.gz"
    seg = tmp_path / "a.seg.dcm"
    faults = {
        "label map holds numbers alone": {"made_by": "hand"},
        "what made the outlines": {"organs": "cube=2,ball=5"},
        "expected hand or PROGRAM=VERSION": {"organs": "cube=2,ball=5", "made_by": "tool"},
        r"label values \[5\] have no name": {"organs": "cube=2", "made_by": "hand"},
        "supported are .seg.dcm": {"organs": "cube=2,ball=5", "made_by": "hand", "output": tmp_path / "a.dcm"},
        "is neither DICOM SEG nor RTSTRUCT": {"made_by": "hand", "mask": next(series.iterdir())},
        "lies up to .* mm from its image": {"organs": "cube=2,ball=5", "made_by": "hand"},
    }
    for said, options in faults.items():
        code, printed = convert(**({"mask": label, "series": series, "output": seg} | options))
        assert code == 1 and re.search(said, printed), (said, printed)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_adapted_to_structure_sets(medfm3d, small_cohort: Path, tmp_path: Path) -> None:
    for name in ("case_0", "case_2"):
        scan = reorient(read_volume(small_cohort / "imagesTr" / f"{name}.nii.gz"), "LPS")
        series = write_series(tmp_path / "archive" / name, np.rint(scan.array), scan.spacing_mm)
        label = reorient(read_label(small_cohort / "labelsTr" / f"{name}.nii.gz"), "LPS")
        labels = Volume(label.array, read_volume(series).affine)
        write_dicom_labels(labels, ORGANS, series, tmp_path / f"{name}.rtstruct.dcm", MadeBy("by hand", "0"))
        (tmp_path / f"{name}.rtstruct.dcm").rename(series / "RS.dcm")
    code, said = medfm3d(
        *("adapt", "--images", tmp_path / "archive", "--labels", tmp_path / "archive", "--organs", "ball=1"),
        *("--output", tmp_path / "bundle", "--method", "linear-probe", "--iterations", 2),
    )
    assert code == 0, said
    assert "to 2 scans" in said
    card = json.loads((tmp_path / "bundle" / "models" / "segmenter.json").read_text())
    assert (card["support"], card["plan"]["organs"]) == (["case_0", "case_2"], {"ball": 1})
