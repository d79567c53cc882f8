"""The abdominal phantom: plausible, varied and exactly repeatable."""

import json
import time
from functools import cache
from pathlib import Path

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from medfm3d.cohorts import load_manifest, read_cohort
from medfm3d.cohorts.phantom import PHANTOM_ORGANS, AbdominalPhantom, write_phantom_cohort
from medfm3d.cohorts.phantom.organ_tables import (
    AORTA_DIAMETER_MM,
    CONTRAST_PHASES,
    ORGAN_TISSUES,
    REFERENCE_MASS_G,
    TISSUE_HU,
    Tissue,
    reference_volume_ml,
)
from medfm3d.volumes import Volume, check_same_grid, read_label, read_volume

SEEDS = range(12)


@cache
def case(seed: int, phase: str = "random", pathologies: bool = False) -> tuple[Volume, Volume]:
    return AbdominalPhantom(contrast_phase=phase, pathologies=pathologies).generate(seed)


def organ_mask(label: Volume, organ: str) -> np.ndarray:
    return label.array == PHANTOM_ORGANS[organ]


def centre_mm(label: Volume, organ: str) -> np.ndarray:
    return label.affine[:3, :3] @ np.argwhere(organ_mask(label, organ)).mean(axis=0) + label.affine[:3, 3]


def test_a_seed_fixes_the_case_and_another_seed_gives_another() -> None:
    phantom = AbdominalPhantom((48, 48, 48), 6.0)
    (image, label), (again, label_again), (other, other_label) = (phantom.generate(seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(image.array, again.array)
    np.testing.assert_array_equal(label.array, label_again.array)
    assert (image.array != other.array).mean() > 0.3
    assert (label.array != other_label.array).sum() > 1000


def test_geometry_and_types() -> None:
    for volume in case(0):
        assert volume.shape == (96, 96, 96)
        assert volume.spacing_mm == (3.0, 3.0, 3.0)
        assert volume.orientation == "RAS"
        middle = volume.affine @ [47.5, 47.5, 47.5, 1]
        np.testing.assert_allclose(middle[:3], 0, atol=1e-4)
    image, label = case(0)
    assert (image.array.dtype, label.array.dtype) == (np.int16, np.uint8)
    assert np.median(image.array[:3, :3]) == pytest.approx(-1000, abs=30)


def test_the_same_patient_on_another_grid() -> None:
    _, label = AbdominalPhantom((72, 64, 80), (4.0, 4.5, 3.6)).generate(3)
    _, usual = case(3)
    assert label.spacing_mm == pytest.approx((4.0, 4.5, 3.6))
    for organ in PHANTOM_ORGANS:
        volumes = [organ_mask(each, organ).sum() * each.voxel_volume_ml for each in (label, usual)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.15), organ
        np.testing.assert_allclose(centre_mm(label, organ), centre_mm(usual, organ), atol=3)


def test_a_small_field_of_view_is_a_cut_out() -> None:
    _, small = AbdominalPhantom((32, 32, 32)).generate(2)
    _, large = case(2)
    cut = large.array[32:64, 32:64, 32:64]
    assert (small.array == cut).mean() > 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_every_organ_is_there_in_one_piece(seed: int) -> None:
    _, label = case(seed)
    assert set(np.unique(label.array)) == {0, *PHANTOM_ORGANS.values()}
    for organ in PHANTOM_ORGANS:
        mask = organ_mask(label, organ)
        largest = cc3d.largest_k(mask, k=1, connectivity=26) > 0
        assert largest.sum() > 0.95 * mask.sum(), organ


def test_mean_volumes_are_those_of_the_reference_adult() -> None:
    labels = [case(seed)[1] for seed in SEEDS]
    for organ in REFERENCE_MASS_G:
        volumes = [organ_mask(label, organ).sum() * label.voxel_volume_ml for label in labels]
        assert np.mean(volumes) == pytest.approx(reference_volume_ml(organ), rel=0.25), organ
        assert np.std(volumes) > 0.04 * np.mean(volumes), organ


def test_reference_volumes_follow_the_published_masses() -> None:
    assert reference_volume_ml("liver", "male") == pytest.approx(1800 / 1.05)
    assert reference_volume_ml("spleen", "female") == pytest.approx(130 / 1.05)
    assert reference_volume_ml("pancreas") == pytest.approx(130 / 1.05)


def test_the_aorta_is_as_wide_as_published() -> None:
    diameters = []
    for seed in SEEDS:
        _, label = case(seed)
        area_mm2 = organ_mask(label, "aorta")[:, :, 50:60].sum(axis=(0, 1)) * 9.0
        diameters.extend(2 * np.sqrt(area_mm2 / np.pi))
    assert np.mean(diameters) == pytest.approx(AORTA_DIAMETER_MM["suprarenal"], rel=0.15)


@pytest.mark.parametrize("phase", CONTRAST_PHASES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ct_numbers_lie_in_the_range_of_their_phase(phase: str, seed: int) -> None:
    image, label = case(seed, phase)
    for organ, tissues in ORGAN_TISSUES.items():
        ranges = [TISSUE_HU[tissue][CONTRAST_PHASES.index(phase)] for tissue in tissues if "GAS" not in tissue.name]
        # Away from the border, where partial volumes are; the median, for gas in the stomach; 8 HU for the texture.
        middle = np.median(image.array[ndimage.binary_erosion(organ_mask(label, organ))])
        assert min(low for low, _ in ranges) - 8 < middle < max(high for _, high in ranges) + 8, organ


def test_no_threshold_tells_neighbours_apart() -> None:
    image, label = case(1, "portal_venous")
    liver, spleen = (image.array[organ_mask(label, organ)] for organ in ("liver", "spleen"))
    middle = (np.median(liver) + np.median(spleen)) / 2
    assert ((liver > middle).mean() + (spleen < middle).mean()) / 2 > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_lie_where_they_belong(seed: int) -> None:
    _, label = case(seed)
    x, y, z = (
        dict(zip(PHANTOM_ORGANS, c, strict=True)) for c in np.array([centre_mm(label, o) for o in PHANTOM_ORGANS]).T
    )
    assert x["liver"] > 0 > x["spleen"]
    assert x["right_kidney"] > 20 > -20 > x["left_kidney"]
    assert z["right_kidney"] < z["left_kidney"]
    assert x["aorta"] < x["vertebrae"] and y["aorta"] > y["vertebrae"]
    assert x["stomach"] < 0 and y["stomach"] > y["spleen"]
    assert y["vertebrae"] < y["pancreas"] < y["stomach"]
    assert z["bladder"] < min(z[organ] for organ in PHANTOM_ORGANS if organ != "bladder")
    assert abs(x["bladder"]) < 20 and y["bladder"] > y["vertebrae"]


def test_neighbours_touch() -> None:
    _, label = case(0)
    touching = {tuple(sorted(pair)) for pair in cc3d.region_graph(label.array.astype(np.uint32), connectivity=6)}
    assert len(touching) >= 4


def test_pathologies_come_only_when_asked_for_and_stay_inside_their_organs() -> None:
    for seed in (0, 1):
        image, label = case(seed)
        ill, ill_label = case(seed, pathologies=True)
        np.testing.assert_array_equal(label.array, ill_label.array)
        changed = np.abs(image.array.astype(int) - ill.array) > 20
        assert changed.sum() > 30
        inside = np.isin(label.array, [PHANTOM_ORGANS[o] for o in ("liver", "right_kidney", "left_kidney")])
        # Partial volumes reach one voxel beyond the organ.
        assert (changed & inside).sum() > 0.8 * changed.sum()


def test_noise_and_streaks_can_be_left_out() -> None:
    clean, label = AbdominalPhantom(noise_hu=0, streaks=False, contrast_phase="none").generate(4)
    noisy, _ = AbdominalPhantom(noise_hu=30, streaks=False, contrast_phase="none").generate(4)
    added = noisy.array.astype(int) - clean.array
    assert 15 < added[organ_mask(label, "liver")].std() < 55
    streaky, _ = AbdominalPhantom(noise_hu=0, streaks=True, contrast_phase="none").generate(4)
    assert 0 < (streaky.array != clean.array).mean() < 0.9


@pytest.mark.parametrize(
    "wrong", [{"shape": (96, 96)}, {"spacing_mm": 0.0}, {"contrast_phase": "venous"}, {"noise_hu": -1.0}]
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AbdominalPhantom(**wrong)


def test_generation_takes_less_than_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    phantom = AbdominalPhantom()
    start = time.process_time()
    phantom.generate(123)
    duration_s = time.process_time() - start
    with capsys.disabled():
        print(f"\nphantom of 96 x 96 x 96 voxels: {duration_s:.2f} s of processor time")
    assert duration_s < 2


def test_a_cohort_is_written_and_read_back(tmp_path: Path) -> None:
    folder = write_phantom_cohort(tmp_path / "phantoms", cases=3, seed=10, shape=(48, 48, 48), spacing_mm=6.0)
    assert folder == tmp_path / "phantoms"
    assert [path.name for path in tmp_path.iterdir()] == ["phantoms"]
    described = json.loads((folder / "dataset.json").read_text())
    assert "synthetic" in described["name"].lower() and "synthetic" in described["description"].lower()

    cohort = read_cohort(folder, "synthetic_phantom")
    assert dict(cohort.organs) == PHANTOM_ORGANS
    assert cohort.names == ("phantom_000", "phantom_001", "phantom_002")
    expected_image, expected_label = AbdominalPhantom((48, 48, 48), 6.0).generate(11)
    image = read_volume(folder / "imagesTr" / "phantom_001.nii.gz")
    label = read_label(folder / "labelsTr" / "phantom_001.nii.gz", list(PHANTOM_ORGANS.values()))
    check_same_grid(image, label)
    np.testing.assert_array_equal(image.array, expected_image.array)
    np.testing.assert_array_equal(label.array, expected_label.array)
    np.testing.assert_allclose(image.affine, expected_image.affine)


def test_an_existing_folder_is_never_written_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists already"):
        write_phantom_cohort(tmp_path, cases=1)
    with pytest.raises(ValueError, match="cases"):
        write_phantom_cohort(tmp_path / "none", cases=0)
    assert not list(tmp_path.iterdir())


def test_the_manifest_has_the_labels_of_the_phantom() -> None:
    manifest = load_manifest("synthetic_phantom")
    assert {name: value for value, name in manifest.labels.items() if value} == PHANTOM_ORGANS


def test_each_tissue_has_ct_numbers_and_at_most_one_organ() -> None:
    assert set(TISSUE_HU) == set(Tissue)
    listed = [tissue for tissues in ORGAN_TISSUES.values() for tissue in tissues]
    assert len(listed) == len(set(listed))
