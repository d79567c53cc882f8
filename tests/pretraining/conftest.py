from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medfm3d.encoders import ViTEncoder
from medfm3d.pretraining import MaskedAutoencoder


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    """Networks this small lose more time to threads that wait for each other than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_encoder() -> ViTEncoder:
    return ViTEncoder(embed_dim=48, depth=2, num_heads=2, patch_size=(8, 8, 8))


@pytest.fixture
def network() -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(small_encoder(), decoder_dim=24, decoder_depth=1, decoder_heads=2)


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four small scans: blobs on noise, of other shapes, one smaller than a window of 32."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    for index, shape in enumerate([(40, 36, 34), (34, 48, 40), (24, 40, 36), (36, 36, 36)]):
        grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
        centre = rng.uniform(-0.4, 0.4, (3, 1, 1, 1))
        array = 100 * np.exp(-3 * ((grid - centre) ** 2).sum(0)) + rng.normal(0, 2, shape)
        nib.save(nib.Nifti1Image(array.astype(np.float32), np.eye(4)), folder / f"scan_{index}.nii.gz")
    return folder
