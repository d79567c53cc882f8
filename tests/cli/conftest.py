"""The command line, run in this process, and a bundle for it."""

import sys
from pathlib import Path

import pytest
import torch

from medfm3d.cli import main
from medfm3d.cli.adapt import run_adaptation
from medfm3d.cohorts import cohort_from_folders


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, small_cohort: Path) -> Path:
    """A bundle adapted to three cases of the small cohort."""
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("bundles") / "cube and ball"
    cohort = cohort_from_folders(small_cohort / "imagesTr", small_cohort / "labelsTr")
    names = ["case_0", "case_2", "case_4"]
    run_adaptation(cohort, {"cube": 2, "ball": 5}, output, names=names, iterations=60, device="cpu")
    return output


@pytest.fixture
def medfm3d(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, request: pytest.FixtureRequest):
    """Run `medfm3d ARGUMENTS --device cpu` and return its exit code and all that it printed."""
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)

    def run(*arguments: object) -> tuple[int, str]:
        device = [] if "--help" in arguments or "--device" in arguments else ["--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["medfm3d", *map(str, arguments), *device])
        code = 0
        try:
            main()
        except SystemExit as ending:
            code = ending.code or 0
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run
