"""Test-time augmentation brings what the network says of a variant back to where it was said of."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer

from medfm3d.inference import AugmentedInferer
from medfm3d.inference.augmented_inferer import AGREEMENT
from medfm3d.inference.scan_variants import draw_variants

SHAPE = (24, 30, 20)


def two_blobs() -> torch.Tensor:
    """A bright ball and a dark one with soft edges, off the middle, (1, 1, D, H, W)."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(side, dtype=torch.float32) for side in SHAPE], indexing="ij"))
    scan = torch.zeros(SHAPE)
    for height, centre in ((4.0, (7, 9, 8)), (-4.0, (16, 20, 12))):
        distance = ((grid - torch.tensor(centre).view(3, 1, 1, 1)) ** 2).sum(0).sqrt()
        scan += height * torch.sigmoid(2 * (5 - distance))
    return scan[None, None]


def by_brightness(scan: torch.Tensor) -> torch.Tensor:
    """Logits that depend on a voxel's brightness alone: a network that moves with its input."""
    return torch.cat([torch.zeros_like(scan), 4 * (scan - 2.0), 4 * (-2.0 - scan)], dim=1)


def by_place(scan: torch.Tensor) -> torch.Tensor:
    """Logits that depend on the place in the window alone: a network that looks at nothing."""
    half = torch.zeros_like(scan)
    half[:, :, : SHAPE[0] // 2] = 8.0
    return torch.cat([half, 8.0 - half, torch.full_like(half, -8.0)], dim=1)


INFERERS = [SimpleInferer(), SlidingWindowInferer(roi_size=(16, 16, 16), overlap=0.5, mode="gaussian")]


@pytest.mark.parametrize("inferer", INFERERS)
def test_one_look_is_plain_inference(inferer: Inferer) -> None:
    scan = two_blobs()
    plain = torch.softmax(inferer(scan, by_brightness), dim=1)
    looked = AugmentedInferer(inferer, 1)(scan, by_brightness)
    torch.testing.assert_close(looked.exp(), plain)
    torch.testing.assert_close(torch.softmax(looked, dim=1), plain)


@pytest.mark.parametrize("inferer", INFERERS)
def test_variants_come_back_to_their_place(inferer: Inferer) -> None:
    scan = MetaTensor(two_blobs(), affine=torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0])))
    plain = torch.softmax(inferer(scan.as_tensor(), by_brightness), dim=1)
    mean = AugmentedInferer(inferer, 9, (1.0, 1.0, 2.0))(scan, by_brightness)
    assert isinstance(mean, MetaTensor) and torch.equal(mean.affine, scan.affine)
    mean = mean.as_tensor().exp()
    torch.testing.assert_close(mean.sum(dim=1), torch.ones(1, *SHAPE))
    first, second = plain.argmax(1), mean.argmax(1)
    for organ in (1, 2):
        a, b = first == organ, second == organ
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9
        places = [torch.nonzero(mask[0]).float().mean(0) for mask in (a, b)]
        assert (places[0] - places[1]).norm() < 0.4  # shifts that were not undone would leave up to 4 voxels
    assert scan.meta[AGREEMENT].shape == (1, 2) and (scan.meta[AGREEMENT] > 0.8).all()


def test_agreement_falls_where_the_network_looks_at_nothing() -> None:
    blind, seeing = MetaTensor(two_blobs()), MetaTensor(two_blobs())
    AugmentedInferer(SimpleInferer(), 7)(blind, by_place)
    AugmentedInferer(SimpleInferer(), 7)(seeing, by_brightness)
    assert blind.meta[AGREEMENT][0, 0] < seeing.meta[AGREEMENT][0, 0]
    assert blind.meta[AGREEMENT][0, 1] == 1  # an organ that nobody sees is agreed upon


def test_variants_are_small_opposite_and_the_same_each_time() -> None:
    variants, again = draw_variants(6, (1, 1, 3)), draw_variants(6, (1, 1, 3))
    for one, other in zip(variants, again, strict=True):
        np.testing.assert_array_equal(one.matrix, other.matrix)
    mm = np.diag([1.0, 1.0, 3.0])
    for variant in variants:
        stretch = np.linalg.svd(mm @ variant.matrix @ np.linalg.inv(mm), compute_uv=False)
        assert stretch.min() > 0.9 and stretch.max() < 1.1  # no shear between long and short voxels
        assert np.linalg.det(variant.matrix) > 0  # no mirror
        assert np.abs(variant.shift).max() <= 4 and 0.8 < variant.gamma < 1.25
    for one, other in zip(variants[::2], variants[1::2], strict=True):
        np.testing.assert_array_equal(one.shift, -other.shift)
        assert one.gamma * other.gamma == pytest.approx(1) and one.offset == -other.offset
        np.testing.assert_allclose(one.matrix @ other.matrix, np.eye(3), atol=1e-9)


def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    from medfm3d.inference import scan_variants

    scan = two_blobs()
    whole = AugmentedInferer(SimpleInferer(), 3)(scan, by_brightness)
    monkeypatch.setattr(scan_variants, "SLAB_VOXELS", 5 * SHAPE[1] * SHAPE[2])
    torch.testing.assert_close(AugmentedInferer(SimpleInferer(), 3)(scan, by_brightness), whole, atol=1e-3, rtol=1e-3)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one look"):
        AugmentedInferer(SimpleInferer(), 0)
    with pytest.raises(TypeError, match="one tensor"):
        AugmentedInferer(SimpleInferer(), 2)(two_blobs(), lambda scan: (scan, scan))
