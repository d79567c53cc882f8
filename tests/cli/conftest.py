"""The command line, run in this process."""

import sys

import pytest
import torch

from medfm3d.cli import main


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
