"""Makes the benchmark's modules importable, as they are for tools/benchmark_fewshot.py beside them; and a bundle."""

import sys
from pathlib import Path

import pytest
import torch

from medfm3d.cli.adapt import run_adaptation
from medfm3d.cohorts import read_cohort

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, small_cohort: Path) -> Path:
    """A bundle of a few steps on two cases, trained in boxes and with priors."""
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("ablation") / "cube and ball"
    cohort = read_cohort(small_cohort)
    config = {"training_priors": ["components", "volume"], "boxed": True}
    names = ["case_0", "case_2"]
    run_adaptation(cohort, cohort.organs, output, names=names, iterations=40, device="cpu", config=config)
    return output
