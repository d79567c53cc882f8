"""Labels drawn in Slicer become the bundle's organs by name, on the scan's grid, or are refused with a remedy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medfm3d.serving import read_annotation
from medfm3d.volumes import Volume, VolumeError, reorient, resample, resample_to, write_volume

ORGANS = {"Liver": 3, "spleen": 7}
NAMES = [{"name": "liver", "idx": 1}, {"name": "Spleen", "idx": 2}]
TRUTH = {1: 3, 2: 7}


def truth_of(drawn: Volume) -> np.ndarray:
    return np.select([drawn.array == value for value in TRUTH], list(TRUTH.values()))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".nii"])
def test_names_that_slicer_sends_count_and_not_numbers(
    scan: Volume, drawn: Volume, tmp_path: Path, suffix: str
) -> None:
    path = write_volume(drawn, tmp_path / f"drawn{suffix}")
    read = read_annotation(path, scan, ORGANS, NAMES)
    np.testing.assert_array_equal(read.label.array, truth_of(drawn))
    assert (read.missing, read.ignored, read.resampled) == ((), (), False)
    other_way = [{"name": "spleen", "idx": 1}, {"name": "liver", "idx": 2}]
    np.testing.assert_array_equal(
        read_annotation(path, scan, ORGANS, other_way).label.array,
        np.select([drawn.array == 1, drawn.array == 2], [7, 3]),
    )


def test_segment_left_out_by_slicer_shifts_idx_but_not_the_label_map(
    scan: Volume, drawn: Volume, tmp_path: Path
) -> None:
    path = write_volume(drawn, tmp_path / "drawn.nii.gz")
    shifted = [{"name": "liver", "idx": 2}, {"name": "spleen", "idx": 3}]  # a segment named background came first
    np.testing.assert_array_equal(read_annotation(path, scan, ORGANS, shifted).label.array, truth_of(drawn))
    only_second = Volume(np.where(drawn.array == 2, 2, 0).astype(np.uint8), drawn.affine)
    path = write_volume(only_second, tmp_path / "second.nii.gz")
    with pytest.raises(
        VolumeError, match=r"second.nii.gz.*one segment or another; remove the segments named background"
    ):
        read_annotation(path, scan, ORGANS, shifted)


def test_header_of_a_slicer_segmentation(scan: Volume, drawn: Volume, write_segmentation: Callable[..., Path]) -> None:
    path = write_segmentation([drawn], {"tumour": (0, 9), "Spleen": (0, 2), "LIVER ": (0, 1)})
    read = read_annotation(path, scan, ORGANS, None)
    np.testing.assert_array_equal(read.label.array, truth_of(drawn))
    assert read.ignored == ("tumour",)


def test_layers_of_a_slicer_segmentation(scan: Volume, drawn: Volume, write_segmentation: Callable[..., Path]) -> None:
    layers = [Volume((drawn.array == value).astype(np.uint8), drawn.affine) for value in (1, 2)]
    path = write_segmentation(layers, {"liver": (0, 1), "spleen": (1, 1)})
    np.testing.assert_array_equal(read_annotation(path, scan, ORGANS, None).label.array, truth_of(drawn))
    path = write_segmentation([layers[0], layers[0]], {"liver": (0, 1), "spleen": (1, 1)})
    with pytest.raises(VolumeError, match=r"spleen overlaps others in 288 voxels.*Overwrite all"):
        read_annotation(path, scan, ORGANS, None)


def test_numbers_without_names_must_be_the_bundles(scan: Volume, drawn: Volume, tmp_path: Path) -> None:
    own = Volume(truth_of(drawn).astype(np.uint8), drawn.affine)
    read = read_annotation(write_volume(own, tmp_path / "own.nii.gz"), scan, ORGANS, None)
    np.testing.assert_array_equal(read.label.array, own.array)
    path = write_volume(drawn, tmp_path / "drawn.nii.gz")
    with pytest.raises(VolumeError, match=r"drawn.nii.gz: holds numbers \[1, 2\] without names.*Liver=3, spleen=7"):
        read_annotation(path, scan, ORGANS, None)


def test_missing_organs_are_named(scan: Volume, drawn: Volume, tmp_path: Path) -> None:
    one = Volume((drawn.array == 1).astype(np.uint8), drawn.affine)
    read = read_annotation(write_volume(one, tmp_path / "one.nii.gz"), scan, ORGANS, NAMES)
    assert read.missing == ("spleen",) and (read.label.array == 3).sum() == (drawn.array == 1).sum()


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ([{"name": "Segment_1", "idx": 1}, {"name": "Segment_2", "idx": 2}], "no segment is named like an organ"),
        ([{"name": "liver", "idx": 1}], r"numbers \[2\] that are none of the segments liver"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    scan: Volume, drawn: Volume, tmp_path: Path, names: list[dict], fault: str
) -> None:
    with pytest.raises(VolumeError, match=fault):
        read_annotation(write_volume(drawn, tmp_path / "drawn.nii.gz"), scan, ORGANS, names)


def test_empty_and_broken_labels_are_refused(scan: Volume, drawn: Volume, tmp_path: Path) -> None:
    empty = write_volume(Volume(np.zeros_like(drawn.array), drawn.affine), tmp_path / "empty.nii.gz")
    with pytest.raises(VolumeError, match=r"empty.nii.gz: nothing is drawn"):
        read_annotation(empty, scan, ORGANS, NAMES)
    broken = write_volume(drawn, tmp_path / "broken.nrrd")
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(VolumeError, match=r"broken.nrrd"):
        read_annotation(broken, scan, ORGANS, NAMES)


def test_label_in_another_orientation_is_the_same_label(scan: Volume, drawn: Volume, tmp_path: Path) -> None:
    path = write_volume(reorient(drawn, "PLI"), tmp_path / "turned.nrrd")
    read = read_annotation(path, scan, ORGANS, NAMES)
    assert read.resampled
    np.testing.assert_array_equal(read.label.array, truth_of(drawn))


def test_finer_and_cropped_labels_come_onto_the_scans_grid(scan: Volume, drawn: Volume, tmp_path: Path) -> None:
    fine = resample(drawn, 0.5, interpolation="nearest")
    read = read_annotation(write_volume(fine, tmp_path / "fine.nii.gz"), scan, ORGANS, NAMES)
    ids = Volume(truth_of(drawn).astype(np.uint8), drawn.affine)
    np.testing.assert_array_equal(
        read.label.array, resample_to(resample(ids, 0.5, interpolation="nearest"), scan, interpolation="nearest").array
    )
    assert ((read.label.array > 0) != (drawn.array > 0)).mean() < 0.01
    affine = drawn.affine.copy()
    affine[:3, 3] = (drawn.affine @ [2, 3, 4, 1])[:3]
    cropped = Volume(drawn.array[2:18, 3:21, 4:13], affine)
    read = read_annotation(write_volume(cropped, tmp_path / "cropped.nii.gz"), scan, ORGANS, NAMES)
    np.testing.assert_array_equal(read.label.array, truth_of(drawn))


def test_labels_that_cannot_belong_to_the_scan_are_refused(scan: Volume, drawn: Volume, tmp_path: Path) -> None:
    shift = drawn.affine.copy()
    shift[0, 3] += 40
    with pytest.raises(VolumeError, match=r"moved.nii.gz: what is drawn lies outside of the scan"):
        read_annotation(write_volume(Volume(drawn.array, shift), tmp_path / "moved.nii.gz"), scan, ORGANS, NAMES)
    coarse = resample(drawn, (2, 1.5, 6), interpolation="nearest")
    with pytest.raises(VolumeError, match=r"coarse.nii.gz: its voxels .2 x 1.5 x 6 mm. are much larger"):
        read_annotation(write_volume(coarse, tmp_path / "coarse.nii.gz"), scan, ORGANS, NAMES)
