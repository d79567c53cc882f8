"""Fixtures shared by all tests: where the real scans lie, and a small made-up cohort."""

import json
import locale
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medfm3d.volumes import Volume, reorient, write_volume

REPOSITORY = Path(__file__).resolve().parents[1]
ORGANS = {"cube": 2, "ball": 5}
LOCALE = locale.setlocale(locale.LC_ALL)


DISTRIBUTED = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")


@pytest.fixture(autouse=True)
def no_process_group_is_left() -> Iterator[None]:
    """Undo what a training set up for several processes: those that later tests start would inherit its port."""
    before = {name: os.environ.get(name) for name in DISTRIBUTED}
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def locale_is_put_back() -> Iterator[None]:
    """Undo what GDCM leaves when it writes DICOM: the C locale, in which what other programs say is no UTF-8."""
    locale.setlocale(locale.LC_ALL, LOCALE)  # a module's fixtures have run before this one
    yield
    locale.setlocale(locale.LC_ALL, LOCALE)


def data_folder() -> Path:
    """Folder of the real scans: MEDFM3D_DATA, by default ../shared/data beside the repository."""
    return Path(os.environ.get("MEDFM3D_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real scans; the test is skipped, saying so, on a machine without them."""
    folder = data_folder()
    if not (folder / "hippocampus" / "dataset.json").is_file():
        pytest.skip(f"no real scans at {folder}: set MEDFM3D_DATA to a folder that holds hippocampus/ and headneck_ct/")
    return folder


def made_up_case(seed: int, shape: tuple[int, int, int] = (28, 34, 30)) -> tuple[Volume, Volume]:
    """Scan and label of an easy pair of organs: a bright cube on the left, a dark ball on the right."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    label = np.zeros(shape, dtype=np.uint8)
    cube = rng.integers((4, 8, 6), (7, 14, 12))
    ball = rng.integers((18, 10, 12), (22, 22, 18))
    side = rng.integers(6, 9)
    label[tuple(slice(start, start + side) for start in cube)] = ORGANS["cube"]
    label[((grid - ball.reshape(3, 1, 1, 1)) ** 2).sum(axis=0) <= rng.uniform(4, 5.5) ** 2] = ORGANS["ball"]
    contrast = 120.0 * (label == ORGANS["cube"]) - 90.0 * (label == ORGANS["ball"])
    image = 300 + gaussian_filter(contrast, 0.5) + rng.normal(0, 12, shape)
    affine = np.diag([1.0, 1.2, 1.5, 1.0])
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return Volume(image.astype(np.float32), affine), Volume(label, affine)


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decathlon-style cohort of 6 cases in several orientations, in a folder whose name holds a space."""
    folder = tmp_path_factory.mktemp("small cohort")
    listed = []
    for n, orientation in enumerate(("RAS", "LPS", "RAS", "AIL", "RAS", "SLP")):
        for name, volume in zip(("imagesTr", "labelsTr"), made_up_case(n), strict=True):
            write_volume(reorient(volume, orientation), folder / name / f"case_{n}.nii.gz")
        listed.append({"image": f"./imagesTr/case_{n}.nii.gz", "label": f"./labelsTr/case_{n}.nii.gz"})
    content = {
        "name": "made up",
        "modality": {"0": "MR"},
        "labels": {"0": "background"} | {str(number): organ for organ, number in ORGANS.items()},
        "training": listed,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run `medfm3d ARGUMENTS` in this process and return its exit code and all that it printed."""
    from medfm3d.cli import main  # takes seconds, which other tests need not spend

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medfm3d", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ending:
            code = ending.code or 0
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture
def medfm3d(command_line, request: pytest.FixtureRequest):
    """`command_line` on one thread, with `--device cpu` where no device is named."""
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)

    def run(*arguments: object) -> tuple[int, str]:
        device = [] if "--help" in arguments or "--device" in arguments else ["--device", "cpu"]
        return command_line(*arguments, *device)

    return run
