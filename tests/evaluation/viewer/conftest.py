"""A browser without a screen, and a few made-up cases to look at."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from looking import ORGANS, ball_and_box, serving
from playwright.sync_api import Browser, Page, sync_playwright

from medfm3d.evaluation.viewer import ViewerServer, pair_scans
from medfm3d.volumes import Volume, reorient, write_volume

# No GPU, and none of the connections that the browser itself would make.
CHROMIUM = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system; the test is skipped, saying so, where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address; afterwards nothing may have been said on the console, nor asked of another place."""
    pages, said, asked = [], [], []

    def open_page(address: str, width: int = 1000, height: int = 700, scheme: str = "light") -> Page:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.set_default_timeout(60_000)
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        pages.append(page)
        return page

    open_page.said = said
    yield open_page
    for page in pages:
        page.close()
    # The driver of a GPU that is none warns of reading pixels back; that is Chromium's, not the page's.
    assert [text for text in said if "GPU stall due to ReadPixels" not in text] == []
    places = {
        urlsplit(url).netloc.rpartition(":")[0] for url in asked if not url.startswith(("data:", "blob:", "file:"))
    }
    assert places <= {"127.0.0.1"}


@pytest.fixture(scope="session")
def look_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans and masks in several formats and orientations: two of one patient, another, one broken, one unmasked."""
    folder = tmp_path_factory.mktemp("look at <these> & those")
    cases = {
        "a_ras.nii.gz": ("RAS", 0),
        "b_lps.nrrd": ("LPS", 0),
        "c_other.mha": ("AIL", 4),
        "e_<i>unmasked.nii.gz": ("RAS", 0),
    }
    for name, (orientation, shift) in cases.items():
        scan, mask = (reorient(volume, orientation) for volume in ball_and_box(shift))
        write_volume(scan, folder / "scans" / name)
        if "unmasked" not in name:
            write_volume(mask, folder / "masks" / name)
    scan, mask = ball_and_box()
    write_volume(scan, folder / "scans" / "d_broken.nii.gz")
    write_volume(Volume(mask.array[:-1], mask.affine), folder / "masks" / "d_broken.nii.gz")
    return folder


@pytest.fixture(scope="module")
def viewer(look_folder: Path) -> Iterator[ViewerServer]:
    cases = pair_scans(look_folder / "scans", look_folder / "masks")
    with serving(ViewerServer(cases, ORGANS, "Scans <i>to</i> look at", port=0)) as server:
        yield server
