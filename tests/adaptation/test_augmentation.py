"""Augmentation: what each group does, that one seed governs all of it, and that nothing is mirrored."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import ClassesToIndicesd
from torchio import RandomGhosting, RandomMotion, RandomSpike

from medfm3d.adaptation import (
    DEFAULT_GROUPS,
    GROUPS,
    RandCTNoised,
    RandTissueContrastd,
    RandTorchIOd,
    training_augmentation,
)
from medfm3d.adaptation.field_of_view import RandFieldOfViewd
from medfm3d.volumes import IntensityNormalized
from medfm3d.volumes.intensity import CT_AIR

WINDOW = (16, 24, 16)
DEFAULT_MR = [
    *("RandDeformedWindowd", "RandGaussianSmoothd", "RandScaleIntensityd", "RandShiftIntensityd"),
    *("RandAdjustContrastd", "RandGaussianNoised", "RandBiasFieldd"),
]

DEFAULT_CT = [DEFAULT_MR[0], "RandFieldOfViewd", *DEFAULT_MR[1:-1]]


def case(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    label = torch.zeros(1, 28, 32, 30, dtype=torch.int32)
    label[:, 6:14, 8:20, 6:18] = 1
    image = label.float() * 2 + torch.as_tensor(rng.normal(0, 0.3, label.shape), dtype=torch.float32)
    return ClassesToIndicesd("label", num_classes=2)({"image": image, "label": label})


def names(modality: str, **arguments) -> list[str]:
    return [type(t).__name__ for t in training_augmentation(WINDOW, modality, **arguments).transforms]


def test_the_default_is_the_measured_set() -> None:
    assert names("MR") == DEFAULT_MR and names("CT") == DEFAULT_CT
    assert names("CT", groups=()) == ["RandDeformedWindowd"]


def test_groups_depend_on_the_modality() -> None:
    assert names("MR", groups=GROUPS) == [*DEFAULT_MR, "RandSimulateLowResolutiond", *["RandTorchIOd"] * 3]
    extra = ["RandSimulateLowResolutiond", "RandCTNoised", "RandTissueContrastd"]
    assert names("CT", groups=GROUPS) == [*DEFAULT_CT, *extra]
    for wrong in ({"groups": ["mirror"]}, {"modality": "PET"}):
        with pytest.raises(ValueError, match=r"mirror|PET"):
            training_augmentation(WINDOW, **{"modality": "MR", **wrong})


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_equal_seeds_give_equal_windows_whatever_else_draws(modality: str) -> None:
    first, second, other = (training_augmentation(WINDOW, modality, groups=GROUPS, seed=seed) for seed in (4, 4, 5))
    for augmentation in (first, second, other):
        for transform in augmentation.transforms[6:]:
            transform.prob = 1.0  # each new one, in every window
    data, differ = case(), False
    for turn in range(3):
        torch.manual_seed(turn)
        a = first(data)
        torch.manual_seed(100 + turn)
        before = torch.get_rng_state()
        b = second(data)
        assert torch.equal(torch.get_rng_state(), before)  # TorchIO's draws move nothing else
        assert torch.equal(torch.as_tensor(a["image"]), torch.as_tensor(b["image"]))
        assert torch.equal(torch.as_tensor(a["label"]), torch.as_tensor(b["label"]))
        assert torch.isfinite(torch.as_tensor(a["image"])).all()
        differ |= not torch.equal(torch.as_tensor(a["image"]), torch.as_tensor(other(data)["image"]))
    assert differ


@pytest.mark.parametrize("artefact", [RandomMotion(), RandomGhosting(intensity=1.0), RandomSpike()])
def test_torchio_changes_the_image_anew_each_time_and_only_as_often_as_asked(artefact) -> None:
    data = {"image": case()["image"], "label": case()["label"]}
    transform = RandTorchIOd("image", artefact, prob=0.5).set_random_state(0)
    seen = [transform(data) for _ in range(40)]
    changed = [item["image"] for item in seen if not torch.equal(item["image"], data["image"])]
    assert 10 <= len(changed) <= 30
    assert not torch.equal(changed[0], changed[1]) and changed[0].shape == data["image"].shape
    assert all(torch.equal(item["label"], data["label"]) for item in seen)


def test_nothing_is_mirrored() -> None:
    """A ramp along each axis keeps its direction in every window, under every group."""
    ramp = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, side) for side in (28, 32, 30)], indexing="ij"))
    for modality in ("MR", "CT"):
        for axis in range(3):
            label = torch.zeros(1, 28, 32, 30, dtype=torch.int32)
            label[:, 10:18, 12:20, 10:20] = 1
            data = ClassesToIndicesd("label", num_classes=2)({"image": 3 * ramp[axis : axis + 1], "label": label})
            groups = [group for group in GROUPS if group != "field-of-view"]  # it takes the ends of ramps away
            augmentation = training_augmentation(WINDOW, modality, groups=groups, seed=axis)
            for _ in range(15):
                window = torch.as_tensor(augmentation(data)["image"])[0].movedim(axis, 0)
                half = window.shape[0] // 2
                assert window[half:].mean() > window[:half].mean()


def test_noise_of_a_sharp_kernel_is_finer_and_none_is_white() -> None:
    flat = {"image": torch.zeros(1, 48, 48, 24)}

    def neighbours(peak: float) -> list[float]:
        """Correlation with the next voxel along each axis."""
        noise = RandCTNoised("image", std=1.0, peak=(peak, peak), prob=1.0).set_random_state(1)(flat)["image"][0]
        moved = [noise.roll(1, axis) for axis in range(3)]
        return [float((noise * other).mean() / noise.var()) for other in moved]

    soft, sharp = neighbours(0.08), neighbours(0.3)
    assert min(soft[:2]) > 0.5 > max(sharp[:2])
    assert abs(soft[2]) < 0.05  # slices are independent
    noise = RandCTNoised("image", std=0.3, prob=1.0).set_random_state(0)(flat)["image"]
    assert 0 < noise.std() <= 0.3 and abs(noise.mean()) < 1e-4


def test_tissues_move_but_keep_their_order() -> None:
    values = torch.linspace(-2, 5, 4000).reshape(1, 10, 20, 20)
    for seed in range(20):
        changed = RandTissueContrastd("image", prob=1.0).set_random_state(seed)({"image": values})["image"]
        steps = changed.flatten().diff()
        assert (steps > 0).all() and steps.max() / steps.min() > 1.2
        assert changed.min() == values.min() and changed.max() == values.max()
    with pytest.raises(ValueError, match=r"0\.5"):
        RandTissueContrastd("image", shift=0.6)


def test_the_bundle_names_the_default_groups(repository: Path) -> None:
    train = json.loads((repository / "bundles/fewshot_organ_segmentation/configs/train.json").read_text())
    assert tuple(train["augmentation_groups"]) == DEFAULT_GROUPS


def test_ct_is_deformed_half_as_much_as_mr() -> None:
    ct, mr = (training_augmentation((16, 16, 16), modality).transforms[0] for modality in ("CT", "MR"))
    assert (ct.rotation_rad, ct.scaling, ct.elastic_voxels) == (
        mr.rotation_rad / 2,
        mr.scaling / 2,
        mr.elastic_voxels / 2,
    )


def test_a_cut_field_of_view_hides_image_and_label_alike_and_keeps_the_middle() -> None:
    cut = RandFieldOfViewd(("image", "label"), value=CT_AIR, prob=1.0).set_random_state(3)
    shares = []
    for _ in range(30):
        image, label = torch.zeros(1, 20, 24, 16), torch.ones(1, 20, 24, 16, dtype=torch.int32)
        result = cut({"image": image, "label": label})
        hidden = result["image"] == CT_AIR
        assert torch.equal(hidden, result["label"] == 0)
        assert not hidden[:, 9:11, 11:13, 7:9].any()
        assert not image.any() and label.all()  # the case itself is kept for the next window
        shares.append(hidden.float().mean().item())
    assert min(shares) < 0.15 and 0.4 < max(shares) < 1
    air = IntensityNormalized("image", modality="CT")({"image": torch.tensor([[[[-1000.0]]]])})
    assert air["image"].item() == pytest.approx(CT_AIR)
