"""Masks and views: what student and teacher get to see."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from medfm3d.pretraining import seeded_generator
from medfm3d.pretraining.dino import MultiCropDataset, block_masks, hidden_cells

VIEWS = {"global_side": (16, 16, 16), "local_side": (8, 8, 8), "local_views": 3}
SCALES = {"global_scale": (0.75, 1.25), "local_scale": (0.5, 1.0)}


def test_a_share_of_the_samples_hides_a_drawn_number_of_units() -> None:
    masks = block_masks(8, (4, 6, 5), seeded_generator(0), share=0.5, ratio=(0.1, 0.5))
    hidden = masks.sum(dim=1)
    assert masks.shape == (8, 120) and masks.dtype == torch.bool
    assert (hidden > 0).sum() == 4
    shares = sorted((hidden[hidden > 0] / 120).tolist())
    for share, low in zip(shares, (0.1, 0.2, 0.3, 0.4), strict=True):  # one in each quarter of the range
        assert low - 0.01 <= share <= low + 0.11
    assert torch.equal(masks, block_masks(8, (4, 6, 5), seeded_generator(0), share=0.5, ratio=(0.1, 0.5)))
    assert not torch.equal(masks, block_masks(8, (4, 6, 5), seeded_generator(1), share=0.5, ratio=(0.1, 0.5)))


def test_hidden_units_lie_in_blocks() -> None:
    masks = block_masks(20, (8, 8, 8), seeded_generator(0), share=1.0, ratio=(0.2, 0.2))
    assert (masks.sum(dim=1) == round(0.2 * 512)).all()
    pieces = [label(mask.view(8, 8, 8).numpy())[1] for mask in masks]
    scattered = torch.stack([torch.randperm(512, generator=seeded_generator(i)) < 102 for i in range(20)])
    assert np.mean(pieces) < 5 < np.mean([label(mask.view(8, 8, 8).numpy())[1] for mask in scattered])


def test_at_least_one_unit_is_hidden_unless_none_shall_be() -> None:
    assert block_masks(2, (2, 2, 2), seeded_generator(0), share=0.1, ratio=(0.01, 0.01)).sum() == 1
    assert block_masks(2, (2, 2, 2), seeded_generator(0), share=0.0).sum() == 0
    with pytest.raises(ValueError, match="mask_ratio"):
        block_masks(2, (2, 2, 2), seeded_generator(0), ratio=(0.5, 0.1))


def test_a_hidden_unit_hides_the_cells_that_it_covers() -> None:
    mask = torch.tensor([[False, True]])
    assert hidden_cells(mask, (1, 1, 2), (1, 1, 2)).tolist() == [[False, True]]
    cells = hidden_cells(mask, (1, 1, 2), (2, 2, 4)).view(2, 2, 4)
    assert cells.sum() == 8 and cells[..., 2:].all()


def dataset(folder: Path, shape: tuple[int, int, int], seed: int = 0, stream: int = 0, **settings) -> MultiCropDataset:
    """Views of one volume whose value at a voxel is its place along the last axis."""
    volume = torch.arange(shape[2], dtype=torch.float16).expand(1, *shape).clone()
    folder.mkdir(exist_ok=True)
    torch.save({"image": volume}, folder / "v.pt")
    return MultiCropDataset([[folder / "v.pt"]], [1.0], (20, 20, 20), seed, stream, **{**VIEWS, **SCALES, **settings})


def test_views_follow_from_the_number(tmp_path: Path) -> None:
    item = dataset(tmp_path, (30, 30, 30))[5]
    assert item["global"].shape == (2, 1, 16, 16, 16) and item["local"].shape == (3, 1, 8, 8, 8)
    again = dataset(tmp_path, (30, 30, 30))[5]
    assert all(torch.equal(item[name], again[name]) for name in item)
    assert type(item["global"]) is torch.Tensor
    assert not torch.equal(item["global"][0], item["global"][1])
    for other in (dataset(tmp_path, (30, 30, 30), 1)[5], dataset(tmp_path, (30, 30, 30), 0, 1)[5]):
        assert not torch.equal(item["global"], other["global"])
    assert dataset(tmp_path, (30, 30, 30), local_views=0)[5]["local"].shape == (0, 1, 8, 8, 8)


def plain(views: MultiCropDataset) -> MultiCropDataset:
    """The same without changes of intensity, so that values tell places."""
    for transform in (views.global_transform, views.local_transform):
        transform.transforms = transform.transforms[:2]
    return views


def test_crops_have_the_scales_asked_for_and_lie_in_one_region(tmp_path: Path) -> None:
    views = plain(dataset(tmp_path, (40, 40, 60)))
    for number in range(12):
        item = views[number]
        extents = {}
        for name, side in (("global", 16), ("local", 8)):
            low, high = item[name].amin((1, 2, 3, 4)), item[name].amax((1, 2, 3, 4))
            extents[name] = (high - low + 1) / side
        assert extents["global"].min() > 0.6 and extents["global"].max() < 1.35
        assert extents["local"].min() > 0.3 and extents["local"].max() < 1.1
        every = torch.cat([item["global"].flatten(), item["local"].flatten()])
        assert every.max() - every.min() < 20  # the region's side


def test_short_axes_are_stretched_and_never_padded(tmp_path: Path) -> None:
    views = plain(dataset(tmp_path, (30, 30, 6)))
    item = views[0]
    for view in item["global"]:
        places = view[0, 0, 0]  # along the short axis, one way or the other
        steps = places.diff().sign()
        assert (steps == steps[0]).sum() >= 12 and abs(float(places[-1] - places[0])) > 4


def test_the_region_is_flipped_as_a_whole_unless_views_shall_be(tmp_path: Path) -> None:
    def directions(**settings) -> set[tuple[float, ...]]:
        views = dataset(tmp_path, (30, 30, 30), **settings)
        for transform in (views.global_transform, views.local_transform):
            transform.transforms = transform.transforms[: 3 if settings else 2]
        return {tuple((v[0, 0, 0, -1] - v[0, 0, 0, 0]).sign().item() for v in views[n]["global"]) for n in range(12)}

    assert directions() == {(1.0, 1.0), (-1.0, -1.0)}
    assert {(1.0, -1.0), (-1.0, 1.0)} & directions(flip_views=True)


def test_views_larger_than_the_region_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not fit into a region"):
        dataset(tmp_path, (30, 30, 30), global_scale=(1.0, 1.5))
