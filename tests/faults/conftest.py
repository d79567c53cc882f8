"""A bundle that is quickly made, for what goes wrong around it."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def sound_bundle(tmp_path_factory: pytest.TempPathFactory, small_cohort: Path) -> Path:
    """A bundle adapted to one case of the small cohort, barely."""
    from medfm3d.cli.adapt import run_adaptation
    from medfm3d.cohorts import cohort_from_folders

    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("bundles") / "sound"
    cohort = cohort_from_folders(small_cohort / "imagesTr", small_cohort / "labelsTr")
    run_adaptation(cohort, {"cube": 2, "ball": 5}, output, names=["case_0"], iterations=2, device="cpu")
    return output
