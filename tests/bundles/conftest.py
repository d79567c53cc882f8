"""Running bundles, and what tests of several bundles share: scans without labels, a bundle adapted once."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

BundleCommand = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def monai_bundle() -> BundleCommand:
    """`python -m monai.bundle COMMAND --name value ...` in a folder; fails the test with its output if it fails."""

    def run(command: str, cwd: Path, **options: object) -> subprocess.CompletedProcess:
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        done = subprocess.run(
            [sys.executable, "-m", "monai.bundle", command, *words],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    return run


@pytest.fixture(scope="session")
def run_config(monai_bundle: BundleCommand) -> BundleCommand:
    """`monai_bundle run` of a bundle's config, or of several that overlay each other, named without suffix."""

    def run(bundle: Path, names: str | list[str], cwd: Path, **options: object) -> subprocess.CompletedProcess:
        several = not isinstance(names, str)
        files = [str(bundle / "configs" / f"{name}.json") for name in (names if several else [names])]
        where = {"meta_file": bundle / "configs" / "metadata.json", "bundle_root": bundle}
        return monai_bundle("run", cwd, config_file=files if several else files[0], **where, **options)

    return run


@pytest.fixture(scope="session")
def scans_without_labels(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a folder of noise scans, the first of a shape and each of the next a voxel longer."""

    def write(count: int, shape: tuple[int, int, int]) -> Path:
        folder, rng = tmp_path_factory.mktemp("unlabelled"), np.random.default_rng(0)
        for index in range(count):
            array = rng.normal(50, 10, (shape[0] + index, *shape[1:])).astype(np.float32)
            nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.0, 1.5, 1.0])), folder / f"scan_{index}.nii.gz")
        return folder

    return write


@pytest.fixture(scope="session")
def fewshot_bundle(repository: Path) -> Path:
    return repository / "bundles" / "fewshot_organ_segmentation"


@pytest.fixture(scope="session")
def adapted(
    tmp_path_factory: pytest.TempPathFactory, fewshot_bundle: Path, small_cohort: Path, run_config: BundleCommand
) -> Path:
    """Bundle adapted to 3 made-up cases by `python -m monai.bundle run`, from a foreign directory."""
    place = tmp_path_factory.mktemp("adapted")
    run_config(
        fewshot_bundle,
        "train",
        place,
        dataset_dir=small_cohort,
        output_dir=place / "my bundle",
        device="auto",
        k=3,
        iterations=80,
        seed=1,
    )
    return place / "my bundle"
