"""Polygons around masks, as several programs fill them."""

import numpy as np
import pytest
from skimage.draw import polygon2mask

from medfm3d.volumes.dicom_labels.contours import fill_polygons, slice_polygons


def random_mask(seed: int) -> np.ndarray:
    """Draw speckle of any density; it has holes, islands, corners and single voxels."""
    rng = np.random.default_rng(seed)
    return rng.random(tuple(rng.integers(1, 25, 2))) < rng.random()


def united(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    return np.any([polygon2mask(shape, polygon) for polygon in polygons] or [np.zeros(shape, dtype=bool)], axis=0)


def even_odd(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    return np.sum([polygon2mask(shape, polygon) for polygon in polygons] or [np.zeros(shape)], axis=0) % 2 == 1


def rounded(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    corners = [np.rint(polygon[:, ::-1]).astype(np.int32) for polygon in polygons]
    return cv2.fillPoly(np.zeros(shape, dtype=np.uint8), corners, 1).astype(bool) if corners else np.zeros(shape, bool)


@pytest.mark.parametrize("fill", [fill_polygons, united, even_odd, rounded])
def test_every_rule_of_filling_gives_the_mask(fill) -> None:
    for seed in range(150):
        mask = random_mask(seed)
        np.testing.assert_array_equal(fill(slice_polygons(mask), mask.shape), mask, err_msg=f"seed {seed}")


def test_one_polygon_for_each_piece_with_all_its_holes() -> None:
    mask = np.ones((9, 15), dtype=bool)
    mask[2:4, 2:4] = mask[5:7, 2:5] = mask[2:7, 8:13] = False
    mask[4, 10] = True  # an island in a hole
    polygons = slice_polygons(mask)
    assert len(polygons) == 2
    np.testing.assert_array_equal(united(polygons, mask.shape), mask)
    touching = np.eye(4, dtype=bool)
    assert [len(polygon) for polygon in slice_polygons(touching)] == [4, 4, 4, 4]


def test_an_area_is_that_of_its_voxels() -> None:
    disc = np.hypot(*(np.indices((80, 80)) - 39.5)) < 30
    (polygon,) = slice_polygons(disc)
    row, column = polygon.T
    area = abs(row @ np.roll(column, -1) - column @ np.roll(row, -1)) / 2
    assert area == pytest.approx(disc.sum(), rel=0.002)
    square = np.ones((6, 6), dtype=bool)
    assert len(slice_polygons(square)[0]) == 8  # no corners along straight edges


def test_contours_through_the_outermost_centres_hold_these() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:6, 1:5] = True
    corners = np.array([[2.0, 1.0], [2.0, 4.0], [5.0, 4.0], [5.0, 1.0]])
    np.testing.assert_array_equal(fill_polygons([corners + 1e-5], mask.shape), mask)
    np.testing.assert_array_equal(fill_polygons([corners - [4, 0]], mask.shape)[:2], mask[4:6])  # cut by the edge
    assert not fill_polygons([corners + 20], mask.shape).any()
