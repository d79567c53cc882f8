"""Inference in the organs' box, and log-priors added to logits, as transforms and inferers of MONAI."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.transforms import Compose

from medfm3d.inference import (
    AddLogPriorsd,
    BoxedInferer,
    BundleError,
    LocateOrgansd,
    list_log_priors,
    read_boxes,
    read_frame,
)
from medfm3d.priors import LocationPrior, OrganBox, PriorSet, VolumePrior, create_priors
from medfm3d.volumes import Volume, VolumeWarning

ORGANS = {"blob": 3}


def scan_and_label(seed: int) -> tuple[Volume, Volume]:
    """A body of water in air with a bright blob at one side of it."""
    rng = np.random.default_rng(seed)
    shape = (40, 36, 44)
    grid = np.indices(shape)
    centre = np.array([20, 18, 22]) + rng.uniform(-1, 1, 3)
    body = (((grid - centre.reshape(3, 1, 1, 1)) / np.reshape([15, 13, 18], (3, 1, 1, 1))) ** 2).sum(axis=0) < 1
    blob = ((grid - (centre + np.array([5, 0, 8])).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < 3.5**2
    image = np.where(body, 20.0 + rng.normal(0, 5, shape), -1000.0)
    image[blob] = 200
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return Volume(image.astype(np.float32), affine), Volume(np.where(blob, 3, 0).astype(np.uint8), affine)


@pytest.fixture(scope="module")
def priors_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, labels = zip(*(scan_and_label(n) for n in range(3)), strict=True)
    priors = PriorSet(create_priors(["volume", "components", "location"], "CT")).fit(labels, ORGANS, images)
    return priors.save(tmp_path_factory.mktemp("priors") / "priors.json")


def located(priors_file: Path | None, volume: Volume) -> MetaTensor:
    tensor = MetaTensor(torch.from_numpy(volume.array)[None], affine=torch.from_numpy(volume.affine))
    tensor.meta["filename_or_obj"] = "/scans/case.nii.gz"
    return LocateOrgansd("image", "CT", list(ORGANS), priors_file)({"image": tensor})["image"]


def bright(window: torch.Tensor) -> torch.Tensor:
    """A network that finds what is brighter than 100."""
    plain = window.as_tensor() if isinstance(window, MetaTensor) else window
    return torch.cat([torch.zeros_like(plain), (plain - 100) / 20], dim=1)


class Counting(Inferer):
    """An inferer that remembers which shapes it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, inputs, network, *args, **kwargs):
        self.shapes.append(tuple(inputs.shape[2:]))
        inputs.meta["noted"] = len(self.shapes)
        return network(inputs)


def with_boxes(image: torch.Tensor, boxes: dict[str, OrganBox | None]) -> MetaTensor:
    noted = {organ: box and {"low_mm": box.low_mm, "high_mm": box.high_mm} for organ, box in boxes.items()}
    return MetaTensor(image, affine=torch.eye(4), meta={"organ_boxes": json.dumps(noted)})


def in_the_scan(logits: MetaTensor, shape: tuple[int, ...], whole: np.ndarray) -> np.ndarray:
    """The mask of a box, put where its affine says it lies in a scan of that shape and affine."""
    mask = np.zeros(shape, dtype=bool)
    found = logits.argmax(dim=1)[0].as_tensor().numpy() > 0
    affine = np.asarray(logits.affine).reshape(-1, 4, 4)[0]
    first = np.round(np.linalg.solve(whole[:3, :3], affine[:3, 3] - whole[:3, 3])).astype(int)
    mask[tuple(slice(a, a + side) for a, side in zip(first, found.shape, strict=True))] = found
    return mask


def test_what_was_located_passes_data_loaders_and_is_read_back(priors_file: Path) -> None:
    tensor = located(priors_file, scan_and_label(9)[0])
    batch = next(iter(DataLoader(Dataset([{"image": tensor}]), batch_size=1)))["image"]
    for scan in (tensor, batch, decollate_batch(batch)[0]):
        assert read_frame(scan).kind == "body" and set(read_boxes(scan)) == {"blob"}
    two = next(iter(DataLoader(Dataset([{"image": tensor}] * 2), batch_size=2)))["image"]
    with pytest.raises(ValueError, match="one scan at a time"):
        read_boxes(two)
    assert read_boxes(located(None, scan_and_label(9)[0])) is None


def test_the_box_is_all_that_is_run_and_the_mask_is_that_of_the_whole(priors_file: Path) -> None:
    image, label = scan_and_label(9)
    batch = next(iter(DataLoader(Dataset([{"image": located(priors_file, image)}]), batch_size=1)))["image"]
    inner = Counting()
    logits = BoxedInferer(inner, (8, 8, 8))(batch, bright)
    assert isinstance(logits, MetaTensor) and logits.shape == (1, 2, *inner.shapes[-1])
    np.testing.assert_array_equal(in_the_scan(logits, image.shape, image.affine), label.array > 0)
    share = batch.meta["searched_share"]
    assert share == pytest.approx(np.prod(inner.shapes[-1]) / image.array.size) and share < 0.5
    sliding = BoxedInferer(SlidingWindowInferer((16, 16, 16), overlap=0.5), (16, 16, 16))(batch, bright)
    np.testing.assert_array_equal(in_the_scan(sliding, image.shape, image.affine), label.array > 0)
    assert decollate_batch(logits)[0].meta["filename_or_obj"] == "/scans/case.nii.gz"


def test_a_box_that_cuts_an_organ_grows_until_it_does_not() -> None:
    image = torch.zeros(1, 1, 60, 20, 20)
    image[0, 0, 5:50, 8:12, 8:12] = 200
    boxes = {"long": OrganBox((20.0, 4.0, 4.0), (30.0, 15.0, 15.0))}
    inner = Counting()
    scan = with_boxes(image, boxes)
    logits = BoxedInferer(inner, (4, 4, 4), growth=8)(scan, bright)
    np.testing.assert_array_equal(in_the_scan(logits, image.shape[2:], np.eye(4)), image[0, 0].numpy() > 100)
    assert scan.meta["noted"] == 4  # what the inferer notes of the last run is kept
    assert len(inner.shapes) == 4 and inner.shapes[-1][0] < 60 and {shape[1] for shape in inner.shapes} == {12}
    # What touches the scan's own faces has nowhere to go on.
    image[0, 0, :, 8:12, 8:12] = 200
    inner = Counting()
    BoxedInferer(inner, (4, 4, 4), growth=8)(with_boxes(image, boxes), bright)
    assert inner.shapes[-1][0] == 60


def test_a_box_without_its_organ_is_given_up_for_the_whole_scan() -> None:
    image = torch.zeros(1, 1, 40, 20, 20)
    image[0, 0, 4:8, 4:8, 4:8] = 200
    inner = Counting()
    scan = with_boxes(image, {"a": OrganBox((27.0, 5.0, 5.0), (37.0, 15.0, 15.0))})
    logits = BoxedInferer(inner, (8, 8, 8))(scan, bright)
    np.testing.assert_array_equal(in_the_scan(logits, image.shape[2:], np.eye(4)), image[0, 0].numpy() > 100)
    assert len(inner.shapes) == 2 and inner.shapes[-1] == (40, 20, 20) and scan.meta["searched_share"] == 1
    # A scan without it is looked at once more, and not for ever.
    inner = Counting()
    BoxedInferer(inner, (8, 8, 8))(
        with_boxes(torch.zeros_like(image), {"a": OrganBox((27, 5, 5), (37, 15, 15))}), bright
    )
    assert len(inner.shapes) == 2


def test_what_lies_outside_the_box_is_background() -> None:
    image = torch.zeros(1, 1, 40, 20, 20)
    image[0, 0, 4:8, 4:8, 4:8] = image[0, 0, 30:34, 8:12, 8:12] = 200
    logits = BoxedInferer(SimpleInferer(), (8, 8, 8))(
        with_boxes(image, {"a": OrganBox((27.0, 5.0, 5.0), (37.0, 15.0, 15.0))}), bright
    )
    mask = in_the_scan(logits, image.shape[2:], np.eye(4))
    assert mask[:20].sum() == 0 and mask.sum() == 64


def test_the_box_is_no_smaller_than_a_window_and_holds_all_organs() -> None:
    image = torch.zeros(1, 1, 40, 20, 12)
    low, high = OrganBox((1.0, 1.0, 1.0), (3.0, 3.0, 3.0)), OrganBox((10.0, 6.0, 2.0), (12.0, 8.0, 4.0))
    for boxes, expected in (
        ({"a": low}, (16, 16, 12)),
        ({"a": low, "b": high}, (16, 16, 12)),
        ({"a": None}, (40, 20, 12)),
    ):
        inner = Counting()
        BoxedInferer(inner, (16, 16, 16))(with_boxes(image, boxes), bright)
        assert inner.shapes[0] == expected  # then the whole, as there is nothing in the box


def test_scans_that_were_not_located_are_refused() -> None:
    with pytest.raises(ValueError, match="LocateOrgansd"):
        BoxedInferer(SimpleInferer(), (8, 8, 8))(MetaTensor(torch.zeros(1, 1, 8, 8, 8)), bright)
    with pytest.raises(ValueError, match="one scan at a time"):
        BoxedInferer(SimpleInferer(), (8, 8, 8))(MetaTensor(torch.zeros(2, 1, 8, 8, 8)), bright)


def test_a_scan_of_another_part_is_searched_as_a_whole_with_a_warning(priors_file: Path) -> None:
    image = scan_and_label(9)[0]
    crop = Volume(np.ascontiguousarray(image.array[14:26, 12:24, 16:28]), image.affine)
    with pytest.warns(VolumeWarning, match=r"case\.nii\.gz.*searched as a whole"):
        tensor = located(priors_file, crop)
    inner = Counting()
    BoxedInferer(inner, (4, 4, 4))(tensor[None], bright)
    assert inner.shapes == [(12, 12, 12)]


def test_priors_without_location_give_no_boxes(tmp_path: Path) -> None:
    path = PriorSet([VolumePrior()]).fit([scan_and_label(0)[1]], ORGANS).save(tmp_path / "priors.json")
    with pytest.raises(BundleError, match=r"priors\.json.*where it lies"):
        located(path, scan_and_label(0)[0])


def test_log_priors_change_only_what_they_list(priors_file: Path, tmp_path: Path) -> None:
    image, label = scan_and_label(9)
    image.array[10:13, 16:19, 8:11] = 150  # as bright, on the other side, and low
    data = {"image": located(None, image)}
    data["pred"] = bright(data["image"][None])[0]
    before = data["pred"].argmax(dim=0).numpy()

    def added(names: list[str], weight: float, folder: str) -> np.ndarray:
        step = AddLogPriorsd("pred", priors_file, list(ORGANS), names, tmp_path / folder, weight)
        return Compose([step])(dict(data))["pred"].argmax(dim=0).numpy()

    after = added(["location", "volume"], 1.0, "one")
    np.testing.assert_array_equal(after > 0, label.array > 0)
    changes = list_log_priors(tmp_path / "one")
    assert {change["prior"] for change in changes} <= {"location", "volume"}
    assert sum(change["lost"] for change in changes) == ((before > 0) & (after == 0)).sum() >= 27
    assert changes[0]["case"] == "case" and changes[0]["lost_ml"] == pytest.approx(changes[0]["lost"] * 0.064)
    np.testing.assert_array_equal(added(["location"], 0.0, "none"), before)
    assert list_log_priors(tmp_path / "none") == [] and list_log_priors(tmp_path) is None


def test_log_priors_say_what_is_missing(priors_file: Path, tmp_path: Path) -> None:
    data = {"image": located(None, scan_and_label(9)[0])}
    data["pred"] = bright(data["image"][None])[0]
    with pytest.raises(BundleError, match="no prior topology"):
        AddLogPriorsd("pred", priors_file, list(ORGANS), ["topology"], tmp_path)(data)
    del data["image"].meta["body_frame"]
    with pytest.raises(BundleError, match="LocateOrgansd"):
        AddLogPriorsd("pred", priors_file, list(ORGANS), [LocationPrior.name], tmp_path)(data)
