"""A small labelled cohort and a bundle adapted to it, made once for all bundle tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medfm3d.volumes import Volume, reorient, write_volume

ORGANS = {"cube": 2, "ball": 5}
BundleCommand = Callable[..., subprocess.CompletedProcess]


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
def fewshot_bundle(repository: Path) -> Path:
    return repository / "bundles" / "fewshot_organ_segmentation"


@pytest.fixture(scope="session")
def adapted(
    tmp_path_factory: pytest.TempPathFactory, fewshot_bundle: Path, small_cohort: Path, monai_bundle: BundleCommand
) -> Path:
    """Bundle adapted to 3 made-up cases by `python -m monai.bundle run`, from a foreign directory."""
    place = tmp_path_factory.mktemp("adapted")
    monai_bundle(
        "run",
        place,
        config_file=fewshot_bundle / "configs" / "train.json",
        meta_file=fewshot_bundle / "configs" / "metadata.json",
        bundle_root=fewshot_bundle,
        dataset_dir=small_cohort,
        output_dir=place / "my bundle",
        device="cpu",
        k=3,
        iterations=80,
        seed=1,
    )
    return place / "my bundle"
