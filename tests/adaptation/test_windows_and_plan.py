"""From support cases to training windows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ClassesToIndicesd, Compose

from medfm3d.adaptation import (
    AdaptationPlan,
    ChannelsToLabelIds,
    LabelIdsToChannels,
    RandDeformedWindowd,
    SupportDataset,
    choose_support,
    create_adapter,
    plan_adaptation,
    read_support,
    training_augmentation,
)
from medfm3d.adaptation.plan import organ_extent
from medfm3d.cohorts import Case, CohortError, cohort_from_folders, read_cohort
from medfm3d.segmentation import Segmenter
from medfm3d.volumes import LoadVolumed, ResampleToSpacingd, Volume, VolumeError, read_volume, reorient, write_volume

SHAPE = (24, 28, 20)


def case_volumes(seed: int, orientation: str = "RAS", ct: bool = False) -> tuple[Volume, Volume]:
    rng = np.random.default_rng(seed)
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[4:9, 6:12, 5:11] = 2
    label[14:19, 14:22, 8:14] = 7
    image = (100.0 * label + rng.normal(0, 5, SHAPE)).astype(np.float32)
    if ct:
        image[0] = -1000
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    return reorient(Volume(image, affine), orientation), reorient(Volume(label, affine), orientation)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, orientation in enumerate(("RAS", "LPI", "SAR")):
        image, label = case_volumes(n, orientation)
        write_volume(image, tmp_path / "images" / f"case_{n}.nii.gz")
        write_volume(label, tmp_path / "labels" / f"case_{n}.nii.gz")
    return tmp_path


ORGANS = {"small": 2, "large": 7}


def cases_of(folder: Path) -> list[Case]:
    return list(cohort_from_folders(folder / "images", folder / "labels").cases)


def test_the_plan_comes_from_the_support_whatever_its_orientation(folder: Path) -> None:
    plan = plan_adaptation(cases_of(folder), ORGANS)
    assert plan == AdaptationPlan(ORGANS, "MR", (1.0, 1.5, 2.0), (24, 32, 24))
    assert plan.label_ids == [0, 2, 7] and plan.organ_names == ["small", "large"]
    assert AdaptationPlan(**plan.to_json()).to_json() == plan.to_json()
    coarse = plan_adaptation(cases_of(folder), ORGANS, spacing_mm=2.0, max_window=16)
    assert coarse.spacing_mm == (2.0, 2.0, 2.0) and coarse.window == (16, 16, 16)
    for image, label in read_support(cases_of(folder), ORGANS):
        assert image.orientation == label.orientation == "RAS"


def test_the_window_holds_the_organs_and_a_margin_not_the_whole_scan(tmp_path: Path) -> None:
    array = np.zeros((120, 90, 70), dtype=np.uint8)
    array[30:70, 40:50, 20:52] = 3  # 40 x 10 x 32 voxels of 2 mm
    image = np.random.default_rng(0).normal(100, 10, array.shape).astype(np.float32)
    for folder, volume in (("images", image), ("labels", array)):
        write_volume(Volume(volume, np.diag([2.0, 2, 2, 1])), tmp_path / folder / "scan.nii.gz")
    case = cohort_from_folders(tmp_path / "images", tmp_path / "labels").cases
    assert organ_extent(array, {"organ": 3}).tolist() == [40, 10, 32]
    # 40 / 0.8 = 50, rounded up; at least 32, for the surroundings; 32 / 0.8 = 40
    assert plan_adaptation(case, {"organ": 3}).window == (56, 32, 40)
    assert plan_adaptation(case, {"organ": 3}, spacing_mm=4.0).window == (32, 32, 32)
    assert plan_adaptation(case, {"organ": 3}, spacing_mm=1.0).window == (64, 32, 64)


def test_unusable_support_is_refused(folder: Path) -> None:
    cases = cases_of(folder)
    with pytest.raises(VolumeError, match=r"case_0\.nii\.gz: stomach not outlined"):
        plan_adaptation(cases, {"small": 2, "stomach": 5})
    with pytest.raises(VolumeError, match="has no label"):
        plan_adaptation([Case("x", cases[0].image)], ORGANS)
    with pytest.raises(VolumeError, match="large not outlined"):
        plan_adaptation([Case("x", cases[0].image, cases[0].label, annotated=("small",))], ORGANS)
    ct, _ = case_volumes(5, ct=True)
    write_volume(ct, cases[1].image)
    write_volume(case_volumes(5)[1], cases[1].label)
    with pytest.raises(VolumeError, match="mixes modalities"):
        plan_adaptation(cases, ORGANS)
    write_volume(Volume(ct.array[1:], ct.affine), cases[1].image)
    with pytest.raises(VolumeError, match="23 x 28 x 20"):
        plan_adaptation(cases, ORGANS)
    for organs in ({}, {"a": 0}, {"a": 1, "b": 1}, {"a": 70000}):
        with pytest.raises(ValueError, match="organ"):
            plan_adaptation(cases, organs)
    with pytest.raises(ValueError, match="multiples of 8"):
        AdaptationPlan(ORGANS, "MR", (1, 1, 1), (20, 24, 24))


def test_the_support_is_named_or_drawn(folder: Path) -> None:
    cohort = cohort_from_folders(folder / "images", folder / "labels")
    support, query = choose_support(cohort, names=["case_2", "case_0"], organs=ORGANS)
    assert [case.name for case in support] == ["case_2", "case_0"]
    assert [case.name for case in query] == ["case_1"]
    drawn, rest = choose_support(cohort, k=2, organs=ORGANS, seed=1)
    assert len(drawn) == 2 and len(rest) == 1
    again, _ = choose_support(cohort, k=2, organs=ORGANS, seed=1)
    assert [case.name for case in drawn] == [case.name for case in again]
    for names in (["case_9"], ["case_0", "case_0"]):
        with pytest.raises(CohortError, match=names[0]):
            choose_support(cohort, names=names, organs=ORGANS)


def test_named_support_cases_have_the_organs_that_the_cohort_says(folder: Path) -> None:
    cohort = cohort_from_folders(folder / "images", folder / "labels", {"klein": 2, "gross": 7})
    with pytest.raises(CohortError, match="has gross=7, not gross=2"):
        choose_support(cohort, names=["case_0"], organs={"gross": 2})
    outlined = replace(cohort, cases=tuple(replace(case, annotated=("klein",)) for case in cohort))
    support, _ = choose_support(outlined, names=["case_0"], organs={"small": 2})
    assert len(read_support(support, {"small": 2})) == 1
    support, _ = choose_support(outlined, names=["case_0"], organs=ORGANS)
    with pytest.raises(VolumeError, match="large not outlined here"):
        read_support(support, ORGANS)


def windows(deform: RandDeformedWindowd, image: torch.Tensor, label: torch.Tensor, count: int) -> list[dict]:
    data = ClassesToIndicesd("label", num_classes=3)({"image": image, "label": label})
    return [deform(data) for _ in range(count)]


def test_undeformed_windows_are_plain_crops() -> None:
    """With nothing random but the place, a window is the volume's own voxels."""
    image = torch.arange(40 * 36 * 30, dtype=torch.float32).view(1, 40, 36, 30)
    label = (image % 3).int()
    deform = RandDeformedWindowd(("image", "label"), (41, 37, 31), prob=0.0).set_random_state(0)
    deform._centre = lambda classes, shape: np.array([20.0, 18.0, 15.0])  # type: ignore[method-assign]
    (window,) = windows(deform, image, label, 1)
    torch.testing.assert_close(window["image"][:, :40, :36, :30], image, atol=0.05, rtol=0)
    assert torch.equal(window["label"][:, :40, :36, :30], label)
    assert (window["label"][:, 40:] == 0).all()  # beyond the volume


def test_deformation_moves_image_and_label_together() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(1, 40, 44, 36, dtype=torch.int32)
    label[:, 8:22, 10:30, 8:20] = 1
    label[:, 24:34, 12:40, 20:32] = 2
    image = label.float() * 10 + torch.rand(label.shape, generator=generator)
    deform = RandDeformedWindowd(("image", "label"), (24, 32, 24), prob=1.0).set_random_state(3)
    made = windows(deform, MetaTensor(image), MetaTensor(label), 30)
    for window in made:
        assert window["image"].shape == window["label"].shape == (1, 24, 32, 24)
        assert type(window["image"]) is torch.Tensor and window["label"].dtype == torch.int32
        off = (window["image"] / 10 - window["label"] - 0.05).abs() > 1.2  # only at corners, where interpolation mixes
        assert off.float().mean() < 0.005
    centres = [int(window["label"][0, 12, 16, 12]) for window in made]
    assert {0, 1, 2} <= set(centres)  # every class is drawn
    assert len({float(window["image"].sum()) for window in made}) == 30
    again = windows(
        RandDeformedWindowd(("image", "label"), (24, 32, 24), prob=1.0).set_random_state(3), image, label, 2
    )
    assert torch.equal(again[1]["image"], made[1]["image"])


def test_windows_stay_inside_the_case_where_it_is_larger() -> None:
    image = torch.ones(1, 60, 60, 60)
    label = torch.zeros(1, 60, 60, 60, dtype=torch.int32)
    label[:, :2, :2, :2] = 1  # an organ in the very corner
    deform = RandDeformedWindowd(("image", "label"), (16, 16, 16), prob=0.0).set_random_state(0)
    marked = torch.where(torch.ones_like(image).bool(), torch.ones_like(image), image)
    for window in windows(deform, marked, label + 1, 20):  # labels 1 and 2: 0 means outside
        assert (window["label"] == 0).float().mean() < 0.2  # jitter alone may look over the edge


def test_ids_and_channels_are_inverse() -> None:
    ids = torch.tensor([[0, 2, 7, 5]], dtype=torch.int32)
    to_channels = LabelIdsToChannels("label", [0, 2, 7])
    channels = to_channels({"label": MetaTensor(ids, affine=2 * torch.eye(4))})["label"]
    assert channels.tolist() == [[0, 1, 2, 0]] and isinstance(channels, MetaTensor)
    assert channels.affine[0, 0] == 2
    assert ChannelsToLabelIds("label", [0, 2, 7])({"label": channels})["label"].tolist() == [[0, 2, 7, 0]]


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_augmentation_changes_contrast_but_not_labels_and_is_seeded(modality: str) -> None:
    image, label = torch.randn(1, 20, 20, 20), torch.zeros(1, 20, 20, 20, dtype=torch.int32)
    label[:, 5:15, 5:15, 5:15] = 1
    data = ClassesToIndicesd("label", num_classes=2)({"image": image, "label": label})
    first, second = (training_augmentation((16, 16, 16), modality, seed=4) for _ in range(2))
    for _ in range(5):
        a, b = first(data), second(data)
        assert torch.equal(torch.as_tensor(a["image"]), torch.as_tensor(b["image"]))
        assert set(np.unique(a["label"])) <= {0, 1}
    still = training_augmentation((16, 16, 16), modality, strength=0.0, seed=0)
    assert set(np.unique(still(data)["label"])) <= {0, 1}


def preprocessing() -> Compose:
    return Compose(
        [
            LoadVolumed("image"),
            LoadVolumed("label", label=True),
            LabelIdsToChannels("label", [0, 2, 7]),
            ClassesToIndicesd("label", num_classes=3),
        ]
    )


def support_dataset(folder: Path, method: str, network: Segmenter) -> SupportDataset:
    data = [{"image": case.image, "label": case.label} for case in cases_of(folder)]
    augmentation = training_augmentation((16, 16, 16), "MR", seed=0)
    return SupportDataset(
        data, preprocessing(), augmentation, 4, create_adapter(method), network, cached_windows=2, seed=0
    )


def test_fresh_windows_for_methods_that_train_the_decoder(folder: Path) -> None:
    dataset = support_dataset(folder, "decoder", Segmenter(ORGANS))
    assert len(dataset) == 4
    first, again = dataset[0], dataset[0]
    assert first["image"].shape == (1, 16, 16, 16) and first["label"].shape == (1, 16, 16, 16)
    assert not torch.equal(first["image"], again["image"])
    with pytest.raises(IndexError):
        dataset[4]
    with pytest.raises(ValueError, match="empty"):
        SupportDataset([], preprocessing(), Compose([]), 4, create_adapter("decoder"), Segmenter(ORGANS))


def test_an_organ_that_the_voxel_size_leaves_nothing_of_is_told(folder: Path) -> None:
    load, organs = preprocessing().transforms[:2], preprocessing().transforms[2:]
    coarser = ResampleToSpacingd(("image", "label"), (20, 20, 20), mode=("bilinear", "nearest"))
    steps = Compose([*load, coarser, *organs])
    data = [{"image": case.image, "label": case.label} for case in cases_of(folder)]
    with pytest.raises(VolumeError, match=r"case_0.nii.gz: no voxel of small, large is left .* \(--spacing-mm\)"):
        SupportDataset(data, steps, Compose([]), 4, create_adapter("decoder"), Segmenter(ORGANS))


def test_cached_features_are_those_of_the_network_and_computed_once(folder: Path) -> None:
    torch.manual_seed(0)
    arguments = {"embed_dim": 48, "depth": 2, "num_heads": 4, "out_layers": (0, 1)}
    network = Segmenter(
        ORGANS, encoder_arguments=arguments, adapter="box-adapter", feature_channels=6, precision="float32"
    ).eval()
    calls: list[torch.Tensor] = []
    network.encoder.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0]))
    dataset = support_dataset(folder, "box-adapter", network)
    items = [dataset[n % 4] for n in range(40)]
    assert len(calls) == 6  # 3 cases, 2 windows each
    with torch.no_grad():
        expected = [network.features(window)[0].half().float() for window in calls[:6]]
    for item in items:
        assert any(torch.equal(item["image"], features) for features in expected)


def test_real_support_sets_give_plans(real_data: Path) -> None:
    hippocampus = read_cohort(real_data / "hippocampus")
    support, _ = choose_support(hippocampus, k=3, organs=hippocampus.organs, seed=0)
    plan = plan_adaptation(support, hippocampus.organs)
    assert plan.modality == "MR" and plan.spacing_mm == (1.0, 1.0, 1.0)
    head = read_cohort(real_data / "headneck_ct")
    organs = {name: head.organs[name] for name in ("Brainstem", "Mandible")}
    support, _ = choose_support(head, k=2, organs=organs, seed=0)
    plan = plan_adaptation(support, organs)
    assert plan.modality == "CT" and max(plan.window) <= 96
    assert read_volume(support[0].image).array.min() <= -1000
