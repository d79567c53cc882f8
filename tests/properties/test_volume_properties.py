"""What holds of every volume, whatever its shape, voxel size and orientation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_volumes import ORIENTATIONS, SPACINGS, volumes
from monai.data import list_data_collate
from monai.transforms import Compose, Orientationd

from medfm3d.inference import StreamingInferer
from medfm3d.volumes import (
    LoadVolumed,
    ResampleToSpacingd,
    SaveVolumed,
    Volume,
    check_same_grid,
    read_label,
    read_volume,
    reorient,
    resample,
    resample_to,
    write_volume,
)

# The same examples in every run; one that takes long on a busy machine is no fault.
FEW = settings(max_examples=25, deadline=None, derandomize=True)
MANY = settings(max_examples=80, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volumes")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_what_is_written_is_read_back(suffix: str, folder: Path) -> None:
    @FEW
    @given(volumes())
    def holds(volume: Volume) -> None:
        read = read_volume(write_volume(volume, folder / f"scan{suffix}"))
        np.testing.assert_array_equal(read.array, volume.array)
        assert read.array.dtype == volume.array.dtype
        check_same_grid(volume, read)

    holds()


@MANY
@given(volumes(), st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS))
def test_turned_and_turned_back_it_is_the_same(volume: Volume, first: str, second: str) -> None:
    turned = reorient(volume, first)
    assert turned.orientation == first
    assert turned.voxel_volume_ml == pytest.approx(volume.voxel_volume_ml)
    there_and_on = reorient(turned, second)
    np.testing.assert_array_equal(there_and_on.array, reorient(volume, second).array)
    back = reorient(there_and_on, volume.orientation)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-8)


@MANY
@given(volumes("uint8", largest=7), SPACINGS, st.sampled_from(["sitk", "torch"]))
def test_resampled_and_back_labels_stay_labels_on_the_same_grid(volume: Volume, spacing: tuple, backend: str) -> None:
    other = resample(volume, spacing, interpolation="nearest", backend=backend)
    np.testing.assert_allclose(other.spacing_mm, spacing, rtol=1e-9)
    back = resample_to(other, volume, interpolation="nearest", backend=backend)
    check_same_grid(volume, back)
    assert back.array.dtype == np.uint8
    assert set(np.unique(back.array)) <= set(np.unique(other.array)) | {0}
    assert set(np.unique(other.array)) <= set(np.unique(volume.array))


@MANY
@given(volumes("float32"), st.sampled_from(["sitk", "torch"]), st.sampled_from(["linear", "nearest"]))
def test_on_its_own_grid_it_is_itself(volume: Volume, backend: str, interpolation: str) -> None:
    same = resample_to(volume, volume, interpolation=interpolation, backend=backend)
    np.testing.assert_allclose(same.array, volume.array, atol=2e-2 if interpolation == "linear" else 0)
    check_same_grid(volume, same)


def threshold_at(level: float):
    """A network that says of each voxel whether it is brighter."""
    return lambda window: torch.cat([level - window, window - level], dim=1)


def mask_of(path: Path, output: Path, spacing: tuple[float, ...], level: float, window: int) -> tuple[Path, np.ndarray]:
    """Read, orient, resample, segment on the grid of the file and write, as our bundles do."""
    before = Compose(
        [
            LoadVolumed("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            ResampleToSpacingd("image", spacing, mode="bilinear"),
        ]
    )
    batch = list_data_collate([before({"image": str(path)})])
    inferer = StreamingInferer(window, overlap=0.5, mode="gaussian", padding_mode="replicate", grid="input")
    labels = inferer(batch["image"], threshold_at(level))
    mask = labels[0]
    mask.affine = labels.affine[0] if labels.affine.ndim == 3 else labels.affine
    mask.meta["filename_or_obj"] = str(path)
    save = SaveVolumed("pred", output)
    save({"pred": mask})
    return save.written[-1], mask.as_tensor()[0].numpy()


@pytest.fixture(scope="module")
def paths(folder: Path) -> tuple[Path, Path]:
    return folder / "case.nii.gz", folder / "masks"


def test_masks_lie_on_exactly_the_scans_grid(paths: tuple[Path, Path]) -> None:
    @FEW
    @given(volumes("float32"), SPACINGS, st.integers(4, 8))
    def holds(volume: Volume, spacing: tuple, window: int) -> None:
        write_volume(volume, paths[0])
        scan = read_volume(paths[0])
        file, _ = mask_of(*paths, spacing, 100.0, window)
        mask = read_label(file)
        assert mask.shape == scan.shape
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
        check_same_grid(scan, mask)
        assert set(np.unique(mask.array)) <= {0, 1}
        # A scan that is dark or bright throughout stays so on every grid.
        for level, label in ((-1.0, 1), (300.0, 0)):
            assert (mask_of(*paths, spacing, level, window)[1] == label).all()

    holds()


def test_without_resampling_masks_are_exact(paths: tuple[Path, Path]) -> None:
    @FEW
    @given(volumes("float32"), st.integers(4, 8))
    def holds(volume: Volume, window: int) -> None:
        write_volume(volume, paths[0])
        turned = reorient(read_volume(paths[0]), "RAS")
        file, _ = mask_of(*paths, turned.spacing_mm, 100.5, window)
        np.testing.assert_array_equal(read_label(file).array, volume.array > 100.5)

    holds()
