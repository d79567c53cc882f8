"""Fixtures shared by all tests: where the real scans lie, and small volumes."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


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
