"""summary.html of a batch."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from medfm3d.evaluation import write_batch_page

COUNT = 1200


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a batch of 1200 scans: number 7 has failed, every hundredth surprises a prior."""
    root = tmp_path_factory.mktemp("batch")
    cases = []
    for number in range(COUNT):
        name = f"pt#{number} <b>?" if number == 3 else f"pt_{number}"
        failed = number == 7
        remark = {"text": "liver: <script>alert(1)</script> too small"}
        cases.append(
            {
                "case": name,
                "scan": str(root / "scans" / f"{name}.nii.gz"),
                "mask": None if failed else str(root / "masks" / f"{name}.nii.gz"),
                "volumes_ml": {} if failed else {"liver": 1000.0 + (number * 37) % COUNT, "spleen": number / 10},
                "remarks": [remark] if number % 100 == 50 else [],
                "seconds": {"read": 0.25} if failed else {"read": 0.25, "infer": 1.0},
                "error": "VolumeError: pt_7.nii.gz: is empty" if failed else None,
            }
        )
    (root / "masks").mkdir()
    (root / "masks" / "summary.json").write_text(json.dumps(cases))
    quality = {"case": "pt_5", "predicted_dice": {"liver": 0.5, "spleen": 0.7}, "features": {}}
    (root / "masks" / "pt_5_quality.json").write_text(json.dumps(quality))
    (root / "scans").mkdir()
    (root / "scans" / "pt#3 <b>?.nii.gz").touch()
    write_batch_page(root / "masks", title="Masks by <i>liver</i>", bundle="my bundle")
    return root


def first_cells(page: Page, count: int, column: int = 0) -> list[str]:
    script = """([count, column]) => [...document.querySelectorAll('#scans tbody tr')].slice(0, count)
        .map((row) => row.cells[column].firstChild?.textContent.trim())"""
    return page.evaluate(script, [count, column])


def test_the_table_sorts_searches_and_stays_small(batch: Path, open_page: Callable[..., Page]) -> None:
    page = open_page((batch / "masks" / "summary.html").as_uri())
    rows = page.locator("#scans tbody tr")
    assert rows.count() == 500 and page.locator("#count").text_content() == "500 of 1200 shown"
    assert first_cells(page, 4) == ["pt_0", "pt_1", "pt_2", "pt#3 <b>?"]
    page.get_by_role("button", name="liver (mL)").click()
    assert first_cells(page, 2, 4) == ["2199", "2198"]
    page.get_by_role("button", name="liver (mL)").click()
    assert first_cells(page, 2, 4) == ["1000", "1001"]
    page.get_by_role("button", name="Predicted Dice").click()  # what has none comes last
    assert first_cells(page, 2) == ["pt_5", "pt_0"] and first_cells(page, 1, 1) == ["0.60"]
    page.get_by_role("button", name="Case").click()
    assert first_cells(page, 4) == ["pt_0", "pt_1", "pt_2", "pt_4"]
    page.locator("#find").fill("too small")
    assert rows.count() == 12 and page.locator("#count").text_content() == "12 of 12 shown"
    page.locator("#find").fill("")
    page.locator("#only-failed").check()
    assert first_cells(page, 5) == ["pt_7"] and "is empty" in rows.first.text_content()
    page.locator("#only-failed").uncheck()
    page.locator("#more").click()
    page.locator("#more").click()
    assert rows.count() == COUNT and page.locator("#more").is_hidden()


def test_it_says_what_became_of_the_batch_and_links_to_files(batch: Path, open_page: Callable[..., Page]) -> None:
    page = open_page((batch / "masks" / "summary.html").as_uri(), width=700)
    text = page.locator("body").inner_text()
    assert "1200 scans, 1199 segmented, 1 failed, 12 with surprises" in text
    assert "read 300.0, infer 1199.0" in text and "Masks by <i>liver</i>" in text
    assert f"medfm3d view --images {batch / 'scans'} --masks {batch / 'masks'} --bundle 'my bundle'" in text
    link = page.locator("#scans tbody tr").nth(3).get_by_text("scan").evaluate("link => link.href")
    assert link == (batch / "scans" / "pt#3 <b>?.nii.gz").as_uri()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_names_that_are_no_utf8_do_no_harm(tmp_path: Path) -> None:
    case = {"case": "a\udcff", "scan": str(tmp_path / "a\udcff.nii"), "mask": str(tmp_path / "a\udcff.nii.gz")}
    rest = {"volumes_ml": {}, "remarks": [], "seconds": {}, "error": None}
    (tmp_path / "summary.json").write_text(json.dumps([case | rest]))
    page = write_batch_page(tmp_path, title="t").read_text(encoding="utf-8")
    assert "a%FF.nii.gz" in page and "a?" in page
