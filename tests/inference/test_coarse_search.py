"""Organ boxes from a look at a scan in fewer voxels, alone and joined with those of a location prior."""

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from medfm3d.inference import BoxedInferer, CoarseSearch, StreamingInferer
from medfm3d.inference.search_region import at_least, grown, joined

AFFINE = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))


def network(window: torch.Tensor) -> torch.Tensor:
    """Finds "a", what is brighter than 100, and "b", what is darker than -100."""
    return torch.cat([torch.zeros_like(window), (window - 100) / 20, (-window - 100) / 20], dim=1)


class Labels(Inferer):
    """Labels of the whole, and which sides it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sides: list[tuple[int, ...]] = []

    def __call__(self, inputs, network, *args, **kwargs):
        self.sides.append(tuple(inputs.shape[2:]))
        return network(inputs).argmax(dim=1, keepdim=True)


class Logits(Labels):
    """The same, and logits."""

    def __call__(self, inputs, network, *args, **kwargs):
        super().__call__(inputs, network)
        return network(inputs)


def scan(*objects: tuple[tuple[slice, slice, slice], float], sides: tuple[int, int, int] = (47, 40, 33)) -> MetaTensor:
    image = torch.zeros(1, 1, *sides)
    for region, value in objects:
        image[(0, 0, *region)] = value
    return MetaTensor(image, affine=AFFINE)


def with_prior(image: MetaTensor, **boxes: tuple[slice, slice, slice] | None) -> MetaTensor:
    noted = {
        organ: box and {"low_mm": [2.0 * one.start - 1 for one in box], "high_mm": [2.0 * one.stop - 1 for one in box]}
        for organ, box in boxes.items()
    }
    image.meta["organ_boxes"] = json.dumps(noted)
    return image


def cube(*starts: int, side: int = 8) -> tuple[slice, slice, slice]:
    i, j, k = (slice(start, start + side) for start in starts)
    return i, j, k


def mask_in(logits: MetaTensor, image: MetaTensor) -> np.ndarray:
    """Labels of a box, put where its affine says that it lies in the scan."""
    labels = np.zeros(image.shape[2:], dtype=np.uint8)
    found = logits.argmax(dim=1)[0].as_tensor().numpy()
    first = np.round(np.asarray(logits.affine).reshape(-1, 4, 4)[0][:3, 3] / 2).astype(int)
    labels[tuple(slice(a, a + side) for a, side in zip(first, found.shape, strict=True))] = found
    return labels


def holds(box: tuple[slice, ...], other: tuple[slice, ...]) -> bool:
    return all(own.start <= one.start and one.stop <= own.stop for own, one in zip(box, other, strict=True))


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0, 2.7])
def test_the_box_holds_the_organ_wherever_it_lies(factor: float) -> None:
    for start in range(0, 25, 3):
        organ = cube(start, 32 - start, start)
        coarse = Labels()
        found = CoarseSearch(coarse, ["a", "b"], factor, margin=3)(scan((organ, 300)), network, {})
        assert found["b"] is None and holds(found["a"], organ)
        assert all(span.stop - span.start <= 8 + 2 * (3 + factor) + 1 for span in found["a"])
        assert coarse.sides == [tuple(round(side / factor) for side in (47, 40, 33))]


def test_only_the_surroundings_of_the_priors_boxes_are_looked_at() -> None:
    image = scan((cube(10, 10, 10), 300), (cube(36, 30, 24), 300))
    coarse = Labels()
    search = CoarseSearch(coarse, ["a"], 1.5, margin=1, reach=5)
    found = search(image, network, {"a": cube(9, 9, 9, side=10)})
    assert coarse.sides == [(13, 13, 13)]
    assert holds(found["a"], cube(10, 10, 10)) and not holds(found["a"], cube(36, 30, 24))
    assert holds(search(image, network, {"a": None})["a"], cube(36, 30, 24))


def test_specks_do_not_widen_a_box() -> None:
    image = scan((cube(10, 10, 10), 300), (cube(38, 30, 22, side=3), 300))
    found = CoarseSearch(Labels(), ["a"])(image, network, {})["a"]
    assert holds(found, cube(10, 10, 10)) and found[0].stop < 30


def test_without_a_prior_the_mask_is_that_of_the_whole_at_a_part_of_its_windows() -> None:
    image = scan((cube(30, 8, 8), 300), (cube(20, 10, 8), -300), sides=(96, 48, 40))
    windows = []

    def counted(window: torch.Tensor) -> torch.Tensor:
        windows.append(len(window))
        return network(window)

    whole = StreamingInferer(16, 1, 0.5, reduction="labels")(image, counted)
    of_whole = sum(windows)
    windows.clear()
    coarse = CoarseSearch(StreamingInferer(16), ["a", "b"])
    sliding = StreamingInferer(16, 1, 0.5, reduction="logits")
    logits = BoxedInferer(sliding, (16, 16, 16), box_search="coarse", coarse=coarse)(image, counted)
    np.testing.assert_array_equal(mask_in(logits, image), whole[0, 0].numpy())
    assert sum(windows) < of_whole / 3
    assert 0 < image.meta["searched_share"] < 0.2


def test_both_are_joined_and_what_is_not_found_has_the_priors_box() -> None:
    own, beside, elsewhere = cube(10, 10, 10), cube(14, 12, 12, side=10), cube(26, 26, 20, side=6)
    image = with_prior(scan((own, 300), (cube(27, 27, 21, side=2), -300)), a=beside, b=elsewhere)
    coarse = CoarseSearch(Labels(), ["a", "b"], margin=1)
    inner = Logits()
    boxed = BoxedInferer(inner, (4, 4, 4), box_search="both", coarse=coarse)
    region = boxed.region(image, network)
    assert all(holds(region, box) for box in (own, beside, elsewhere))
    logits = boxed(image, network)
    assert inner.sides == [tuple(span.stop - span.start for span in region)], "one run: both organs are in the box"
    assert (mask_in(logits, image)[own] == 1).all()
    by_prior = BoxedInferer(inner, (4, 4, 4)).region(image, network)
    assert not holds(by_prior, own) and holds(by_prior, beside)
    alone = BoxedInferer(inner, (4, 4, 4), box_search="coarse", coarse=CoarseSearch(Labels(), ["a"], margin=0))
    assert holds(alone.region(image, network), own) and not holds(alone.region(image, network), elsewhere)


def test_an_organ_that_nobody_can_place_is_searched_everywhere() -> None:
    image = scan((cube(10, 10, 10), 300))
    coarse = CoarseSearch(Labels(), ["a", "b"])
    everywhere = tuple(slice(0, side) for side in image.shape[2:])
    assert BoxedInferer(Logits(), (4, 4, 4), box_search="coarse", coarse=coarse).region(image, network) == everywhere
    unknown = with_prior(image, a=None, b=None)
    assert BoxedInferer(Logits(), (4, 4, 4), box_search="both", coarse=coarse).region(unknown, network) == everywhere
    placed = with_prior(image, a=None, b=cube(14, 14, 14, side=4))
    region = BoxedInferer(Logits(), (4, 4, 4), box_search="both", coarse=coarse).region(placed, network)
    assert holds(region, cube(10, 10, 10)) and region != everywhere


def test_the_coarse_pass_counts_where_an_organ_grows_out_of_its_box() -> None:
    organ = (slice(5, 40), slice(10, 14), slice(10, 14))
    image = with_prior(scan((organ, 300), (cube(20, 9, 9, side=1), -300)), a=cube(18, 8, 8))
    grows, found_first = Logits(), Logits()
    BoxedInferer(grows, (4, 4, 4), growth=8)(image, network)
    coarse = CoarseSearch(Labels(), ["a"], reach=20)
    logits = BoxedInferer(found_first, (4, 4, 4), growth=8, box_search="both", coarse=coarse)(image, network)
    assert len(grows.sides) == 3 and len(found_first.sides) == 1
    assert (mask_in(logits, image)[organ] == 1).all()


def test_settings_that_make_no_sense_are_refused() -> None:
    for arguments in ({"factor": 0.5}, {"margin": -1}, {"reach": -2}):
        with pytest.raises(ValueError, match="coarse search takes"):
            CoarseSearch(Labels(), ["a"], **arguments)
    for arguments in ({"box_search": "guess"}, {"box_search": "both"}):
        with pytest.raises(ValueError, match="box_search is one of prior, coarse, both"):
            BoxedInferer(Labels(), (4, 4, 4), **arguments)


def test_regions_stay_in_the_scan() -> None:
    box, sides = (slice(2, 5), slice(8, 10), slice(0, 4)), (20, 10, 4)
    assert grown(box, 3, sides) == (slice(0, 8), slice(5, 10), slice(0, 4))
    assert at_least(box, (9, 6, 8), sides) == (slice(0, 9), slice(4, 10), slice(0, 4))
    assert at_least(box, (1, 1, 1), sides) == box
    assert joined([box, cube(4, 4, 1, side=2)]) == (slice(2, 6), slice(4, 10), slice(0, 4))
