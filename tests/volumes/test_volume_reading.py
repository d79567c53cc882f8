"""Files of each format, good and bad."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from medfm3d.volumes import Volume, VolumeError, VolumeWarning, output_name, read_label, read_volume, write_volume

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.3, -0.2, 0.1) @ np.diag([0.8, 1.1, 2.5]), [-31.5, 12.25, 700.0]
)


def oblique_volume() -> Volume:
    array = np.random.default_rng(0).normal(40, 300, (7, 9, 5)).astype(np.float32)
    return Volume(array, OBLIQUE)


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = OBLIQUE) -> Path:
    nib.Nifti1Image(array, affine).to_filename(path)
    return path


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_written_volumes_read_back_with_values_and_place(tmp_path: Path, suffix: str, dtype: str) -> None:
    volume = oblique_volume()
    volume = Volume(volume.array.clip(0, 255).astype(dtype), volume.affine)
    path = write_volume(volume, tmp_path / "deep" / f"scan{suffix}")
    read = read_volume(path)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.array.dtype == dtype
    np.testing.assert_allclose(read.affine, volume.affine, atol=1e-4)
    assert read.source == path
    assert not [part for part in path.parent.iterdir() if part.name.startswith(".")]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_every_format_lands_where_simpleitk_puts_it(tmp_path: Path, suffix: str) -> None:
    """A voxel's place by our affine is ITK's, turned from LPS to RAS."""
    path = write_volume(oblique_volume(), tmp_path / f"scan{suffix}")
    ours, theirs = read_volume(path), sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (6, 8, 4), (3, 1, 2)):
        lps = np.array(theirs.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(ours.affine[:3] @ [*index, 1], lps * [-1, -1, 1], atol=1e-3)
        assert ours.array[index] == pytest.approx(theirs[index])


def test_nifti2_and_big_endian_are_read(tmp_path: Path) -> None:
    array = np.arange(60, dtype=">i2").reshape(3, 4, 5)
    nib.Nifti2Image(array.astype("<i2"), OBLIQUE).to_filename(tmp_path / "two.nii")
    big = nib.Nifti1Image(array, OBLIQUE, nib.Nifti1Header(endianness=">"))
    big.to_filename(tmp_path / "big.nii")
    for name in ("two.nii", "big.nii"):
        read = read_volume(tmp_path / name)
        np.testing.assert_array_equal(read.array, array)
        assert read.array.dtype.isnative


def test_scaled_values_are_rescaled(tmp_path: Path) -> None:
    stored = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = save_nifti(tmp_path / "scaled.nii", stored)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([2, -1024], dtype=np.float32).tobytes()  # scl_slope and scl_inter
    path.write_bytes(content)
    np.testing.assert_array_equal(read_volume(path).array, stored * 2.0 - 1024)


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "one.nii.gz", np.random.default_rng(0).random((4, 5, 6, 1), dtype=np.float32))
    assert read_volume(path).shape == (4, 5, 6)


def refused(path: Path, *words: str) -> None:
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert str(path) in message and ";" in message
    for word in words:
        assert word in message, message


def test_empty_and_truncated_files_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(20, 20, 20)).astype(np.float32)
    (tmp_path / "empty.nii.gz").touch()
    refused(tmp_path / "empty.nii.gz", "empty")
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha"):
        whole = write_volume(Volume(array, OBLIQUE), tmp_path / f"whole{suffix}").read_bytes()
        for part in (0.02, 0.5, 0.98):
            path = tmp_path / f"part{suffix}"
            path.write_bytes(whole[: int(len(whole) * part)])
            refused(path)
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"not a scan" * 100))
    refused(tmp_path / "text.nii.gz", "NIfTI")
    refused(tmp_path / "absent.nii.gz", "no such file")
    (tmp_path / "scan.txt").write_text("x")
    refused(tmp_path / "scan.txt", "by its name")


def test_wrong_dimensions_and_colours_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    refused(save_nifti(tmp_path / "2d.nii.gz", rng.random((8, 8), dtype=np.float32)), "2 dimensions (8, 8)")
    refused(save_nifti(tmp_path / "slice.nii.gz", rng.random((8, 8, 1), dtype=np.float32)), "shape")
    refused(save_nifti(tmp_path / "4d.nii.gz", rng.random((8, 8, 8, 3), dtype=np.float32)), "dimensions", "frames")
    rgb = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(save_nifti(tmp_path / "rgb.nii.gz", rgb), "RGB")
    refused(save_nifti(tmp_path / "complex.nii.gz", np.ones((4, 4, 4), dtype=np.complex64)), "complex")
    colours = sitk.GetImageFromArray(np.zeros((4, 4, 4, 3), dtype=np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "rgb.mha"))
    refused(tmp_path / "rgb.mha", "3 numbers per voxel")
    sitk.WriteImage(sitk.Image([5, 5, 5, 3], sitk.sitkInt16), str(tmp_path / "4d.mha"))
    refused(tmp_path / "4d.mha", "4 dimensions")
    sitk.WriteImage(sitk.Image([5, 5], sitk.sitkInt16), str(tmp_path / "2d.nrrd"))
    refused(tmp_path / "2d.nrrd", "2 dimensions")


def test_absurd_geometry_is_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((8, 8, 8), dtype=np.float32)
    refused(save_nifti(tmp_path / "tiny.nii.gz", array, np.diag([1e-3, 1e-3, 1e-3, 1])), "spacing")
    refused(save_nifti(tmp_path / "huge.nii.gz", array, np.diag([1, 1, 400, 1])), "spacing")
    refused(save_nifti(tmp_path / "long.nii.gz", np.tile(array, (20, 1, 1)), np.diag([40, 1, 1, 1])), "extends")
    sheared = np.eye(4)
    sheared[0, 2] = 0.3
    image = nib.Nifti1Image(array, sheared)
    image.header["pixdim"][3] = np.linalg.norm(sheared[:3, 2])
    image.to_filename(tmp_path / "sheared.nii.gz")
    refused(tmp_path / "sheared.nii.gz", "sheared", "gantry")
    singular = np.eye(4)
    singular[:3, 1] = singular[:3, 0]
    image = nib.Nifti1Image(array, np.eye(4))
    image.set_sform(singular, code=1)
    image.to_filename(tmp_path / "singular.nii.gz")
    refused(tmp_path / "singular.nii.gz", "singular")
    refused(save_nifti(tmp_path / "nowhere.nii.gz", array, None), "sform")


@pytest.mark.parametrize("size", [0.0, -1.0, np.nan])
def test_zero_and_negative_voxel_sizes_in_the_file_are_refused(tmp_path: Path, size: float) -> None:
    path = save_nifti(tmp_path / "scan.nii", np.random.default_rng(0).random((8, 8, 8), dtype=np.float32))
    content = bytearray(path.read_bytes())
    content[80 + 8 : 80 + 12] = np.float32(size).tobytes()  # pixdim[3], NIfTI-1 header offset 76 + 4 * 3
    path.write_bytes(content)
    refused(path, "pixdim")
    text = write_volume(oblique_volume(), tmp_path / "scan.mha").read_bytes()
    line = next(line for line in text.split(b"\n") if line.startswith(b"ElementSpacing"))
    (tmp_path / "scan.mha").write_bytes(text.replace(line, f"ElementSpacing = 1 1 {size}".encode()))
    refused(tmp_path / "scan.mha", "spacing")


def test_contradicting_headers_are_told(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((8, 8, 8), dtype=np.float32)
    path = save_nifti(tmp_path / "scan.nii", array)
    content = bytearray(path.read_bytes())
    content[88:92] = np.float32(5).tobytes()
    path.write_bytes(content)
    refused(path, "two voxel sizes")
    image = nib.Nifti1Image(array, np.eye(4))
    image.set_sform(np.eye(4), code=1)
    moved = np.eye(4)
    moved[:3, 3] = 20
    image.set_qform(moved, code=1)
    image.to_filename(tmp_path / "moved.nii.gz")
    with pytest.warns(VolumeWarning, match="34.6 mm"):
        assert read_volume(tmp_path / "moved.nii.gz").affine[0, 3] == 0


def test_nrrd_without_space_is_refused(tmp_path: Path) -> None:
    head = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\nendian: little\n\n"
    (tmp_path / "scan.nrrd").write_bytes(head + bytes(range(64)))
    refused(tmp_path / "scan.nrrd", "space")


def test_useless_values_are_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((8, 8, 8), dtype=np.float32)
    refused(save_nifti(tmp_path / "constant.nii.gz", np.full_like(array, 3)), "all voxels are 3")
    for value in (np.nan, np.inf):
        array[1, 2, 3] = value
        refused(save_nifti(tmp_path / "nan.nii.gz", array), "1 voxels are NaN")


def test_labels_are_checked_and_small(tmp_path: Path) -> None:
    label = np.zeros((6, 6, 6), dtype=np.float32)
    label[2:4] = 2
    good = save_nifti(tmp_path / "good.nii.gz", label)
    assert read_label(good, allowed_ids=[1, 2]).array.dtype == np.uint8
    with pytest.raises(VolumeError, match=r"good.*\[2\] are not among \[1\]"):
        read_label(good, allowed_ids=[1])
    with pytest.raises(VolumeError, match="not integers"):
        read_label(save_nifti(tmp_path / "half.nii.gz", label + 0.5))
    with pytest.raises(VolumeError, match="run from -1"):
        read_label(save_nifti(tmp_path / "negative.nii.gz", label - 1))
    assert not read_label(save_nifti(tmp_path / "none.nii.gz", 0 * label)).array.any()


def test_real_bad_inputs(real_data: Path) -> None:
    refused(real_data / "bad_inputs" / "empty_file.nii.gz", "empty")
    # Readable, so nothing refuses it before it is compared with what it should be.
    assert read_label(real_data / "bad_inputs" / "label_512x512x94.nii.gz").shape == (512, 512, 94)


@pytest.mark.parametrize("stored", ["uint8", "int16"])
def test_labels_survive_a_nifti_scale_factor(tmp_path: Path, stored: str) -> None:
    for classes in (3, 14, 25):
        array = np.random.default_rng(classes).integers(0, classes, (6, 7, 8))
        image = nib.Nifti1Image(array.astype(np.float64), OBLIQUE)
        image.set_data_dtype(stored)  # nibabel then stores rounded numbers and a factor
        image.set_sform(OBLIQUE, 1)
        nib.save(image, tmp_path / "label.nii")
        np.testing.assert_array_equal(read_label(tmp_path / "label.nii").array, array)


def test_a_useless_qform_beside_a_good_sform_is_a_warning(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "qform.nii", np.random.default_rng(0).random((4, 5, 6), dtype=np.float32))
    content = bytearray(path.read_bytes())
    content[252:254] = np.array([1], dtype=np.int16).tobytes()  # qform_code
    content[256:268] = np.array([0.8, 0.60001, 0], dtype=np.float32).tobytes()  # a quaternion longer than 1
    path.write_bytes(content)
    with pytest.warns(VolumeWarning, match="qform is invalid"):
        np.testing.assert_allclose(read_volume(path).affine, OBLIQUE, atol=1e-5)


def test_spaces_without_left_and_right_and_headers_without_voxel_size_are_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    path = write_volume(Volume(array, OBLIQUE), tmp_path / "scan.nrrd")
    head = path.read_bytes()
    path.write_bytes(head.replace(b"space: left-posterior-superior", b"space: scanner-xyz"))
    refused(path, "scanner-xyz", "left and right are unknown")
    path = write_volume(Volume(array, OBLIQUE), tmp_path / "scan.mha")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(line for line in lines if not line.startswith(b"ElementSpacing")))
    refused(path, "no voxel size")


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "series" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "series")
    assert output_name(".") == "series"
    monkeypatch.chdir(tmp_path / "series" / "inner")
    assert output_name("..") == "series"


@pytest.mark.parametrize(("decimals", "accepted"), [(4, True), (3, False)])
def test_directions_are_orthogonal_to_four_decimals(tmp_path: Path, decimals: int, accepted: bool) -> None:
    directions = Rotation.from_euler("xyz", [12, -21, 9], degrees=True).as_matrix().round(decimals)
    affine = np.eye(4)
    affine[:3, :3] = directions
    file = tmp_path / "oblique.nii.gz"
    nib.Nifti1Image(np.random.default_rng(0).random((4, 5, 6), dtype=np.float32), affine).to_filename(file)
    if accepted:
        np.testing.assert_allclose(read_volume(file).affine, affine, atol=1e-4)
    else:
        refused(file, "sheared", "gantry")
