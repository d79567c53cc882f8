"""The viewer within a report that is opened from disk."""

import gzip
import io
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from looking import ORGANS, ball_and_box, pixels, shown
from playwright.sync_api import Page, expect

from medfm3d.evaluation import write_report
from medfm3d.evaluation.viewer import embed_cases, embedded, pair_scans
from medfm3d.volumes import Volume, read_label, reorient, write_volume


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a report #1")
    for number, name in enumerate(("first", "second & <last>")):
        scan, mask = ball_and_box(4 * number, seed=number)
        write_volume(scan, folder / "scans" / f"{name}.nii.gz")
        write_volume(mask, folder / "masks" / f"{name}.nii.gz")
    return write_report(
        folder / "report.html",
        evaluation=None,
        predictions=folder / "masks",
        images=folder / "scans",
        labels=None,
        organs=ORGANS,
        remarks=[],
        title="Masks",
    )


def test_a_click_in_a_table_opens_the_case(report: Path, open_page: Callable[..., Page]) -> None:
    page = open_page(report.as_uri())
    assert page.locator("#viewer").is_hidden()
    for name, shift in (("second & <last>", 4), ("first", 0)):
        page.locator("#cases").get_by_role("button", name=name).click()
        page.wait_for_selector("[data-viewer][data-state=shown]")
        expect(page.locator("[data-role=name]")).to_have_text(name)
        voxels = np.count_nonzero(ball_and_box(shift)[1].array == 7)
        assert page.locator("tr[data-organ='right box'] td").nth(2).get_attribute("title") == f"{voxels} voxels"
        page.locator("[data-role=opacity]").evaluate(
            "(slider) => { slider.value = 100; slider.dispatchEvent(new Event('input')); }"
        )
        assert shown(page, "left ball").sum() > 1000
        # Voxels are those of the file, though the copy in the page is cut out of it.
        page.locator("tr[data-organ='right box'] button").click()
        root = page.locator("[data-viewer]")
        voxel = tuple(int(index) for index in root.get_attribute("data-voxel").split(","))
        scan, mask = ball_and_box(shift, seed=shift // 4)
        assert mask.array[voxel] == 7 and float(root.get_attribute("data-value")) == scan.array[voxel]
    assert pixels(page.locator("canvas")).std() > 20


def test_copies_are_cut_and_reduced_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, mask = ball_and_box()
    wide = [
        np.pad(volume.array, ((0, 40), (0, 0), (0, 0)), constant_values=fill)
        for volume, fill in ((scan, -990), (mask, 0))
    ]
    affine = scan.affine
    write_volume(reorient(Volume(wide[0], affine), "PIR"), tmp_path / "scans" / "a.nii.gz")
    write_volume(reorient(Volume(wide[1], affine), "PIR"), tmp_path / "masks" / "a.nii.gz")
    cases = pair_scans(tmp_path / "scans", tmp_path / "masks")

    def unpacked(case: dict, what: str) -> nib.Nifti1Image:
        return nib.Nifti1Image.from_bytes(gzip.decompress(b64decode(case[f"{what}_nifti"])))

    (case,) = embed_cases(cases, ORGANS, 10).cases
    assert case["shown"] == "cut to 25 mm around the organs" and case["shape"] == [36, 30, 80]
    cut, cut_mask = unpacked(case, "scan"), unpacked(case, "mask")
    whole = read_label(tmp_path / "masks" / "a.nii.gz")
    assert max(cut.shape) < 60 and np.count_nonzero(cut_mask.get_fdata()) == np.count_nonzero(whole.array)
    place = np.linalg.inv(whole.affine) @ cut_mask.affine @ [*np.argwhere(cut_mask.get_fdata() == 3)[0], 1]
    assert whole.array[tuple(np.rint(place[:3]).astype(int))] == 3

    monkeypatch.setattr(embedded, "LARGEST_VOXELS", 10_000)
    (case,) = embed_cases(cases, ORGANS, 10).cases
    small = unpacked(case, "scan")
    assert "reduced to 2." in case["shown"] and np.prod(small.shape) <= 10_000
    assert case["organs"][0]["voxels"] == np.count_nonzero(mask.array == 3)
    assert embed_cases(cases, ORGANS, 0.001).left_out == ["a"]


def test_mr_keeps_its_values_within_a_level(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((12, 11, 10)).astype(np.float32)
    write_volume(Volume(values, np.eye(4)), tmp_path / "a.nii.gz")
    (case,) = embed_cases(pair_scans(tmp_path, None), {}, 10).cases
    image = nib.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(b64decode(case["scan_nifti"]))))
    assert case["mask_nifti"] is None and case["unit"] == ""
    np.testing.assert_allclose(image.get_fdata(), values, atol=1 / 4000)
