"""`medfm3d view` as its users see it: in a browser."""

from collections.abc import Callable

import numpy as np
import pytest
from looking import ball_and_box, pixels, shown
from playwright.sync_api import Page, expect

from medfm3d.evaluation.viewer import ViewerServer

SHOWN = "[data-viewer][data-state=shown]"


def role(page: Page, name: str):
    return page.locator(f"[data-role={name}]")


def slide(page: Page, name: str, value: float) -> None:
    role(page, name).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def open_case(page: Page, name: str) -> None:
    page.locator("#cases").get_by_text(name).click()
    page.wait_for_selector(SHOWN)
    expect(role(page, "name")).to_have_text(name)


@pytest.fixture
def page(viewer: ViewerServer, open_page: Callable[..., Page]) -> Page:
    page = open_page(viewer.url)
    page.wait_for_selector(SHOWN)
    return page


def test_the_overlay_is_there_and_its_opacity_can_be_set(page: Page) -> None:
    canvas = role(page, "canvas")
    slide(page, "opacity", 0)
    without = pixels(canvas)
    assert not shown(page, "left ball").any() and not shown(page, "right box").any()
    # The scan is there: grey, and neither black nor even.
    assert (without.max(axis=-1) - without.min(axis=-1) < 3).mean() > 0.9 and without.std() > 20
    slide(page, "opacity", 100)
    assert shown(page, "left ball").sum() > 1000
    slide(page, "opacity", 50)
    assert role(page, "opacity-percent").text_content() == "50 %"
    half = pixels(canvas)
    assert not shown(page, "left ball").any() and (np.abs(half - without).max(axis=-1) > 20).sum() > 1000


def test_sliders_go_through_slices(page: Page) -> None:
    scan, mask = ball_and_box()
    root = page.locator("[data-viewer]")
    slide(page, "opacity", 100)
    for plane, axis, side in (("axial", 2, 30), ("coronal", 1, 36), ("sagittal", 0, 40)):
        before = pixels(role(page, "canvas"))
        slide(page, plane, 5)
        assert role(page, f"{plane}-slice").text_content() == f"5 / {side}"
        voxel = tuple(int(index) for index in root.get_attribute("data-voxel").split(","))
        assert voxel[axis] == 4 and float(root.get_attribute("data-value")) == scan.array[voxel]
        assert f"{scan.array[voxel]} HU" in role(page, "place").text_content()
        assert (np.abs(pixels(role(page, "canvas")) - before).max(axis=-1) > 10).sum() > 500
    # The corner where all of them are now has no organ in any plane.
    assert not mask.array[4].any() and not mask.array[:, 4].any() and not mask.array[..., 4].any()
    planes = shown(page, "left ball")[: shown(page, "left ball").shape[0] // 2]  # 3D is in the lower half
    assert not planes.any()


def test_a_click_on_a_case_opens_it_and_the_table_lists_its_volumes(page: Page) -> None:
    for case, shift in (("c_other", 4), ("b_lps", 0)):
        open_case(page, case)
        mask = ball_and_box(shift)[1].array
        for organ, number in (("left ball", 3), ("right box", 7)):
            row = page.locator(f"tr[data-organ='{organ}']")
            voxels = np.count_nonzero(mask == number)
            assert row.locator("td").nth(2).get_attribute("title") == f"{voxels} voxels"
            assert float(row.locator("td").nth(2).text_content()) == pytest.approx(voxels * 0.00375, abs=0.051)
        assert page.locator("tr[data-organ=nowhere] td").nth(2).text_content() == "none"
        assert page.locator("[aria-current=true]").text_content() == case
    role(page, "next").click()
    expect(role(page, "name")).to_have_text("c_other")


def test_a_click_on_an_organ_goes_there_and_its_box_hides_it(page: Page) -> None:
    mask = ball_and_box()[1].array
    slide(page, "opacity", 100)
    for organ, number in (("right box", 7), ("left ball", 3)):
        page.locator(f"tr[data-organ='{organ}'] button").click()
        voxel = page.locator("[data-viewer]").get_attribute("data-voxel")
        assert mask[tuple(int(index) for index in voxel.split(","))] == number
        assert organ in role(page, "place").text_content()
        assert shown(page, organ).any()
        page.locator(f"tr[data-organ='{organ}'] input").uncheck()
        assert not shown(page, organ).any()
        assert not role(page, "all").is_checked()
    role(page, "all").check()
    assert shown(page, "left ball").any()


@pytest.mark.parametrize("case", ["a_ras", "b_lps"])
def test_left_is_on_the_right_whatever_the_file_s_axes(page: Page, case: str) -> None:
    open_case(page, case)
    slide(page, "opacity", 100)
    middle = {}
    for organ in ("left ball", "right box"):
        page.locator(f"tr[data-organ='{organ}'] button").click()
        seen = shown(page, organ)
        rows, columns = seen.shape
        upper_left = seen[: rows // 2, : columns // 2]  # the coronal plane
        assert upper_left.any()
        middle[organ] = np.argwhere(upper_left)[:, 1].mean()
        assert ("L " if organ == "left ball" else "R ") in role(page, "place").text_content()
    assert middle["left ball"] > middle["right box"] + 30


def test_a_window_and_a_zoom_change_what_is_seen(page: Page) -> None:
    slide(page, "opacity", 0)
    before = pixels(role(page, "canvas"))
    role(page, "window").select_option("brain")
    windowed = pixels(role(page, "canvas"))
    assert (np.abs(windowed - before).max(axis=-1) > 20).sum() > 1000
    slide(page, "zoom", 3)
    assert (np.abs(pixels(role(page, "canvas")) - windowed).max(axis=-1) > 20).sum() > 1000


def test_a_case_that_cannot_be_shown_says_why_and_others_still_open(page: Page, open_page) -> None:
    page.locator("#cases").get_by_text("d_broken").click()
    page.wait_for_selector("[data-viewer][data-state=failed]")
    assert "d_broken.nii.gz: has 39 x 36 x 30 voxels" in role(page, "message").text_content()
    assert any("422" in text for text in open_page.said)  # the browser notes what the server answered
    open_page.said.clear()
    open_case(page, "e_<i>unmasked")
    expect(role(page, "unmasked")).to_be_visible()
    assert role(page, "organs").is_hidden()
    open_case(page, "a_ras")
    expect(role(page, "unmasked")).to_be_hidden()


def test_cases_can_be_searched(page: Page) -> None:
    page.locator("#filter").fill("LPS")
    visible = [button.text_content() for button in page.locator("#cases button").all() if button.is_visible()]
    assert visible == ["b_lps"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_window(viewer: ViewerServer, open_page: Callable[..., Page], scheme: str) -> None:
    page = open_page(viewer.url, width=700, height=900, scheme=scheme)
    page.wait_for_selector(SHOWN)
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= seen
    assert role(page, "canvas").bounding_box()["width"] > 600
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 24, 28)")
