"""Orientation, grids and resampling, held against nibabel and SimpleITK."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medfm3d.volumes import (
    Volume,
    VolumeError,
    check_same_grid,
    read_volume,
    reorient,
    resample,
    resample_to,
)

ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(["RL", "AP", "SI"]) for letters in itertools.product(*axes)
]
ROTATION = nib.eulerangles.euler2mat(0.2, -0.1, 0.15)


def smooth_volume(shape: tuple[int, int, int] = (20, 24, 16)) -> Volume:
    grid = np.meshgrid(*(np.linspace(0, 5, side) for side in shape), indexing="ij")
    array = (np.sin(grid[0]) + np.cos(1.3 * grid[1]) * grid[2]).astype(np.float32)
    return Volume(array, nib.affines.from_matvec(ROTATION @ np.diag([1.0, 1.5, 2.0]), [10, -20, 30]))


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_reorienting_moves_no_voxel_in_the_patient(orientation: str) -> None:
    volume = smooth_volume((4, 5, 6))
    turned = reorient(volume, orientation)
    assert turned.orientation == orientation
    for index in itertools.product(*map(range, turned.shape)):
        place = np.linalg.inv(volume.affine) @ turned.affine @ [*index, 1]
        assert turned.array[index] == volume.array[tuple(np.round(place[:3]).astype(int))]
        np.testing.assert_allclose(place[:3], np.round(place[:3]), atol=1e-9)
    back = reorient(turned, volume.orientation)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-9)


def test_unknown_orientations_are_refused() -> None:
    for name in ("RAR", "XYZ", "RA"):
        with pytest.raises(ValueError, match=name):
            reorient(smooth_volume(), name)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("spacing", [0.7, 2.3, (1.0, 0.9, 3.1)])
def test_torch_resamples_as_simpleitk_does(interpolation: str, spacing: float) -> None:
    volume = smooth_volume()
    by_sitk = resample(volume, spacing, interpolation=interpolation)
    by_torch = resample(volume, spacing, interpolation=interpolation, backend="torch")
    assert by_torch.shape == by_sitk.shape
    np.testing.assert_allclose(by_torch.affine, by_sitk.affine)
    np.testing.assert_allclose(by_sitk.spacing_mm, np.broadcast_to(spacing, 3), rtol=1e-9)
    if interpolation == "linear":
        np.testing.assert_allclose(by_torch.array, by_sitk.array, atol=2e-4)
    else:
        index = np.indices(by_sitk.shape).reshape(3, -1)
        place = (np.linalg.inv(volume.affine) @ by_sitk.affine @ np.vstack([index, np.ones(index.shape[1])]))[:3]
        half_way = (np.abs(place % 1 - 0.5) < 1e-6).any(axis=0)  # falls to either side by the last bit
        assert half_way.mean() < 0.25
        np.testing.assert_array_equal(by_torch.array.ravel()[~half_way], by_sitk.array.ravel()[~half_way])


def test_resampling_keeps_the_box_and_a_linear_ramp() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    ramp = Volume(np.mgrid[0:10, 0:10, 0:10][1].astype(np.float32), affine)
    finer = resample(ramp, 1.0)
    assert finer.shape == (20, 20, 20)
    corner = finer.affine @ [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(corner, affine @ [-0.5, -0.5, -0.5, 1])
    expected = (finer.affine @ [0, 7, 0, 1])[1] / 2
    assert finer.array[0, 7, 0] == pytest.approx(expected)


@pytest.mark.parametrize("backend", ["sitk", "torch"])
def test_resample_to_gives_the_references_grid_and_its_own_outside(backend: str) -> None:
    volume = smooth_volume()
    moved = volume.affine.copy()
    moved[:3, 3] += moved[:3, 0] * 3  # three voxels along the first axis
    reference = Volume(np.zeros((20, 24, 16), dtype=np.uint8), moved)
    result = resample_to(volume, reference, backend=backend, outside=-7)
    check_same_grid(reference, result)
    np.testing.assert_allclose(result.array[:17], volume.array[3:], atol=1e-4)
    assert (result.array[17:] == -7).all()


def test_nearest_keeps_type_and_values() -> None:
    label = Volume((smooth_volume().array > 1).astype(np.uint16) * 700, smooth_volume().affine)
    for backend in ("sitk", "torch"):
        result = resample(label, 0.8, interpolation="nearest", backend=backend)
        assert result.array.dtype == np.uint16
        assert set(np.unique(result.array)) == {0, 700}


def test_resampling_a_real_ct_agrees_with_plain_simpleitk(real_data: Path) -> None:
    path = real_data / "totalsegmentator_example" / "example_ct_sm.nii.gz"
    ours = resample(read_volume(path), 4.5)
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
    lps = np.diag([-1, -1, 1]) @ ours.affine[:3]
    theirs = sitk.Resample(
        image,
        [int(side) for side in ours.shape],
        sitk.Transform(),
        sitk.sitkLinear,
        lps[:, 3].tolist(),
        list(ours.spacing_mm),
        (lps[:, :3] / ours.spacing_mm).ravel().tolist(),
        -5000.0,
    )
    expected = sitk.GetArrayFromImage(theirs).transpose()
    inside = expected > -4000
    assert inside.mean() > 0.9
    np.testing.assert_allclose(ours.array[inside], expected[inside], atol=0.01)


def test_bad_requests_are_refused() -> None:
    for bad in (0.0, -1.0):
        with pytest.raises(ValueError, match="positive"):
            resample(smooth_volume(), bad)
    with pytest.raises(ValueError, match="cubic"):
        resample(smooth_volume(), 1.0, interpolation="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="numpy"):
        resample(smooth_volume(), 1.0, backend="numpy")  # type: ignore[arg-type]


def test_grids_that_differ_are_told() -> None:
    image = smooth_volume()
    other_shape = Volume(image.array[:-1], image.affine)
    with pytest.raises(VolumeError, match=r"19 x 24 x 16 voxels.*20 x 24 x 16"):
        check_same_grid(image, other_shape)
    moved = image.affine.copy()
    moved[0, 3] += 0.5
    with pytest.raises(VolumeError, match=r"lies up to 0.5 mm"):
        check_same_grid(image, Volume(image.array, moved))
    moved[0, 3] = image.affine[0, 3] + 1e-4
    check_same_grid(image, Volume(image.array, moved))
