"""The ends of a MONAI pipeline, and intensities."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Invertd, LoadImaged, Orientationd, SaveImaged, Spacingd

from medfm3d.volumes import (
    IntensityNormalized,
    LoadVolumed,
    ResampleToSpacingd,
    SaveVolumed,
    Volume,
    VolumeError,
    detect_modality,
    read_label,
    read_volume,
    reorient,
    write_volume,
)
from medfm3d.volumes.intensity import CT_CENTRE_HU, CT_SPREAD_HU, CT_WINDOW_HU


def scan(shape: tuple[int, int, int] = (10, 12, 14)) -> Volume:
    array = np.random.default_rng(1).uniform(10, 200, shape).astype(np.float32)
    return reorient(Volume(array, np.array([[1, 0, 0, -5], [0, 1.5, 0, 3], [0, 0, 2, 8], [0, 0, 0, 1.0]])), "LPI")


def test_a_scan_goes_through_monai_and_comes_back_on_its_grid(tmp_path: Path) -> None:
    path = write_volume(scan(), tmp_path / "case.nrrd")
    load = LoadVolumed("image")
    assert isinstance(load, LoadImaged)
    preprocessing = Compose([load, Orientationd("image", "RAS"), Spacingd("image", (2, 2, 2))])
    data = preprocessing({"image": path})
    assert data["image"].shape[0] == 1 and data["image"].dtype == torch.float32
    data["pred"] = data["image"].clone()
    data = Invertd("pred", transform=preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True)(data)
    save = SaveVolumed("pred", tmp_path / "out", dtype="float32")
    assert isinstance(save, SaveImaged)
    save(data)
    assert save.written == [tmp_path / "out" / "case.nii.gz"]
    result = read_volume(save.written[0])
    assert result.shape == scan().shape
    np.testing.assert_allclose(result.affine, scan().affine, atol=1e-5)


def test_a_bad_file_raises_our_error_through_monai(tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").touch()
    with pytest.raises(VolumeError, match="empty"):
        LoadVolumed("image")({"image": tmp_path / "bad.nii.gz"})


def test_labels_load_as_integers(tmp_path: Path) -> None:
    label = Volume((scan().array > 100).astype(np.uint8) * 3, scan().affine)
    path = write_volume(label, tmp_path / "label.nii.gz")
    loaded = LoadVolumed("label", label=True)({"label": path})["label"]
    assert loaded.dtype == torch.int32
    np.testing.assert_array_equal(loaded[0].numpy(), label.array)


def test_no_mask_replaces_another_or_a_scan(tmp_path: Path) -> None:
    first = write_volume(scan(), tmp_path / "a" / "case.nii.gz")
    second = write_volume(scan(), tmp_path / "b" / "case.nrrd")
    save = SaveVolumed("image", tmp_path / "out", output_postfix="seg")
    save(LoadVolumed("image")({"image": first}))
    assert read_label(tmp_path / "out" / "case_seg.nii.gz").array.dtype == np.uint8
    with pytest.raises(VolumeError, match="distinct names"):
        save(LoadVolumed("image")({"image": second}))
    with pytest.raises(VolumeError, match="overwrite"):
        SaveVolumed("image", tmp_path / "a")(LoadVolumed("image")({"image": first}))


def test_modality_is_told_from_air() -> None:
    assert detect_modality(np.array([-1000.0, 40])) == "CT"
    assert detect_modality(np.array([-20.0, 900])) == "MR"


def test_ct_and_mr_are_standardised() -> None:
    rng = np.random.default_rng(0)
    ct = torch.from_numpy(rng.normal(50, 40, (1, 20, 20, 20)))
    ct[:, :5] = -1000
    result = IntensityNormalized("image")({"image": ct})["image"]
    assert abs(result[:, 5:].mean() * CT_SPREAD_HU + CT_CENTRE_HU - 50) < 2  # a Hounsfield unit is the same everywhere
    assert (result[:, :5] == (CT_WINDOW_HU[0] - CT_CENTRE_HU) / CT_SPREAD_HU).all()
    more_air = torch.cat([ct, torch.full_like(ct, -1000)], dim=1)
    torch.testing.assert_close(IntensityNormalized("image")({"image": more_air})["image"][:, :20], result)

    mr = torch.from_numpy(rng.gamma(2.0, 1e5, (1, 20, 20, 20)))
    scaled = IntensityNormalized("image")({"image": mr})["image"]
    assert scaled.mean().abs() < 1e-4 and abs(scaled.std() - 1) < 1e-4
    torch.testing.assert_close(scaled, IntensityNormalized("image")({"image": mr * 1e-3 + 7})["image"])
    with pytest.raises(ValueError, match="PET"):
        IntensityNormalized("image", modality="PET")


def test_statistics_do_not_depend_on_the_order_in_memory() -> None:
    x = torch.randn(1, 30, 31, 32) * 1000
    turned = x.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    assert not turned.is_contiguous()
    normalise = IntensityNormalized("image", modality="MR")
    assert torch.equal(normalise({"image": x})["image"], normalise({"image": turned})["image"])


def test_entries_named_like_metadata_survive_resampling(tmp_path: Path) -> None:
    """MONAI's own transform stops at them: 'str' object has no attribute 'update'."""
    array = np.random.default_rng(0).random((8, 9, 10)).astype(np.float32)
    path = write_volume(Volume(array, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "scan.nii.gz")
    data = {"image": str(path), "image_path": str(path), "imagery": "kept"}
    pipeline = Compose([LoadVolumed("image"), ResampleToSpacingd("image", (1, 1, 1), mode="bilinear")])
    result = pipeline(data)
    assert result["image_path"] == str(path) and result["imagery"] == "kept"
    assert result["image"].shape == (1, 8, 9, 19) and result["image"].dtype == torch.float32
    restored = Invertd("image", pipeline, orig_keys="image", nearest_interp=False)(result)["image"]
    assert restored.shape == (1, 8, 9, 10)
    with pytest.raises(AttributeError, match="update"):
        Spacingd("image", (1, 1, 1))(LoadVolumed("image")(data))
