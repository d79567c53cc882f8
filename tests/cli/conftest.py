"""A bundle for the command line."""

from pathlib import Path

import pytest
import torch

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
