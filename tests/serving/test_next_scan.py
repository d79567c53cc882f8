"""The scan that is offered is typical first, then of the kind that lacks labels, and one whose mask is bad."""

import numpy as np
import pytest

from medfm3d.serving.next_scan import choose_next, help_of_each


@pytest.fixture
def clusters() -> np.ndarray:
    """Scans 0 to 9 of one kind, 10 to 14 of another, 15 an oddity; the first of each kind is its centre."""
    rng = np.random.default_rng(0)
    kinds = [np.zeros(4), np.array([6.0, 6, 0, 0]), np.array([0, 0, 0, 30.0])]
    points = [
        kind + (rng.normal(0, 0.5, 4) if n else 0)
        for kind, size in zip(kinds, (10, 5, 1), strict=True)
        for n in range(size)
    ]
    return np.array(points)


def test_first_is_typical_then_the_other_kind_and_the_oddity_late(clusters: np.ndarray) -> None:
    chosen = choose_next(clusters, [], count=16)
    assert chosen[0] < 10 and 10 <= chosen[1] < 15
    assert sorted(chosen) == list(range(16))
    assert choose_next(clusters, [chosen[0]]) == [chosen[1]]


def test_first_is_the_most_central(clusters: np.ndarray) -> None:
    spread = clusters.std(axis=0)
    distances = np.linalg.norm((clusters[:, None] - clusters[None]) / spread, axis=-1).sum(axis=1)
    assert choose_next(clusters, []) == [int(distances.argmin())]


def test_bad_masks_draw_the_choice(clusters: np.ndarray) -> None:
    good, bad = np.full(16, 0.95), np.full(16, 0.95)
    bad[10:15] = 0.2
    labelled = [0, 10]
    assert 10 <= choose_next(clusters, labelled, bad)[0] < 15
    helped = help_of_each(clusters, labelled, np.where(np.arange(16) < 10, 0.2, good))
    assert int(helped.argmax()) < 10


def test_unknown_quality_counts_as_the_mean_of_the_known(clusters: np.ndarray) -> None:
    known = np.full(16, 0.6)
    some = known.copy()
    some[3:8] = np.nan
    np.testing.assert_allclose(help_of_each(clusters, [0], some), help_of_each(clusters, [0], known))
    assert (help_of_each(clusters, [0, 4], None)[[0, 4]] == 0).all()


def test_nothing_is_offered_twice_even_if_scans_are_equal() -> None:
    same = np.ones((4, 3))
    assert sorted(choose_next(same, [], count=9)) == [0, 1, 2, 3]
