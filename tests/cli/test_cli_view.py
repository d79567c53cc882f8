"""`medfm3d view` from the command line; the page itself is tested in tests/evaluation/viewer."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from medfm3d.cli import view as view_module
from medfm3d.evaluation.viewer import ViewerServer, assets

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def command(command_line: Run) -> Run:
    """Run `medfm3d view ARGUMENTS` in this process and return its exit code and all that it printed."""
    return partial(command_line, "view")


@pytest.fixture
def view(command: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run `medfm3d view ARGUMENTS` until it answers, press Ctrl-C, and return its exit code, output and the page."""
    pages = []

    def serve(server: ViewerServer) -> None:
        thread = threading.Thread(target=server._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        with urlopen(server.url, timeout=20) as answer:
            pages.append(answer.read().decode())
        server._server.shutdown()
        thread.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(ViewerServer, "serve", serve)

    def run(*arguments: object) -> tuple[int, str, str]:
        pages.clear()
        code, said = command("--no-browser", *arguments)
        return code, said, "".join(pages)

    return run


def test_folders_or_a_scan_and_its_mask(view, small_cohort: Path) -> None:
    images, labels = small_cohort / "imagesTr", small_cohort / "labelsTr"
    code, said, page = view("--images", images, "--masks", labels, "--organs", "cube=2,ball=5", "--port", 0)
    assert code == 0 and "6 cases at http://127.0.0.1:" in said and said.endswith("ended\n")
    assert all(f">case_{number}</button>" in page for number in range(6))
    code, said, page = view(images / "case_1.nii.gz", labels / "case_2.nii.gz", "--port", 0)
    assert code == 0 and "1 case at" in said and page.count("data-case=") == 1
    code, said, page = view("--images", images, "--port", 0)
    assert code == 0 and page.count("<small>no mask</small>") == 6


def test_what_is_wrong_is_said(view, small_cohort: Path, tmp_path: Path) -> None:
    images = small_cohort / "imagesTr"
    taken = ViewerServer([], {}, "t", port=0)
    wrong = (
        ((), "name either a scan and its mask, or folders"),
        (("--masks", images), "name either a scan and its mask, or folders"),
        ((images / "case_0.nii.gz", "--images", images), "name either a scan and its mask, or folders"),
        ((tmp_path / "none.nii.gz",), "none.nii.gz: no such file"),
        (("--images", tmp_path), "holds no volume"),
        (("--images", images, "--organs", "cube"), "expected NAME=ID"),
        (("--images", images, "--organs", "cube=2", "--bundle", tmp_path), "give one of them"),
        (("--images", images, "--bundle", tmp_path), "is not an adapted bundle"),
        (("--images", images, "--port", taken.port), f"port {taken.port} is taken by another program"),
    )
    for arguments, message in wrong:
        code, said, page = view(*arguments)
        assert code == 1 and message in said.replace("\n", " ") and "Traceback" not in said and not page, said
    taken.free_port()


def test_it_opens_the_browser_and_says_where_there_is_none(
    command: Run, small_cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr(view_module.webbrowser, "open", lambda url: opened.append(url))
    monkeypatch.setattr(ViewerServer, "serve", lambda server: None)
    code, said = command("--images", small_cohort / "imagesTr", "--port", 0)
    assert code == 0 and opened[0] in said and "no browser was found" in said


def test_without_niivue_it_says_what_to_do(command: Run, small_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "NIIVUE", small_cohort / "niivue.js")
    code, said = command("--no-browser", "--images", small_cohort / "imagesTr")
    assert code == 1 and "NiiVue is not there" in said and "tools/vendor_niivue.py" in said.replace("\n", " ")
