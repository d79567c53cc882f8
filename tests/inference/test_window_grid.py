"""The order in which windows are visited, and how much of a volume waits for later ones."""

from collections.abc import Iterator

import numpy as np
import pytest

from medfm3d.inference.window_grid import WindowGrid

GRIDS = [
    ((50, 41, 30), (16, 16, 16), (0.25, 0.25, 0.25)),
    ((30, 41, 50), (16, 12, 20), (0.5, 0.6, 0.0)),
    ((17, 16, 16), (16, 16, 16), (0.5, 0.5, 0.5)),
    ((40, 40, 40), (10, 10, 10), (0.0, 0.0, 0.0)),
    ((9, 5, 7), (3, 3, 3), (0.9, 0.5, 0.34)),
]


def finished(grid: WindowGrid) -> Iterator[tuple[list[tuple[int, int, int]], int]]:
    """After each window: the cells that it finishes, in order, and how many voxels were held."""
    waiting = {index: cell.windows for index, cell in grid.cells.items()}
    begun: dict[tuple[int, int, int], int] = {}
    for window in grid.windows():
        done = []
        for cell in grid.cells_of(window):
            begun.setdefault(cell.index, int(np.prod([span.stop - span.start for span in cell.region])))
            waiting[cell.index] -= 1
            if not waiting[cell.index]:
                done.append(cell.index)
        held = sum(begun.values())
        for index in done:
            del begun[index]
        yield done, held
    assert not begun and not any(waiting.values())


@pytest.mark.parametrize(("size", "window", "overlap"), GRIDS)
def test_cells_cover_the_volume_once_and_finish_behind_their_neighbours(size, window, overlap) -> None:
    grid = WindowGrid(size, window, overlap)
    covered = np.zeros(size, dtype=int)
    for cell in grid.cells.values():
        covered[cell.region] += 1
    assert (covered == 1).all()
    assert len(list(grid.windows())) == len(grid) == len({str(window) for window in grid.windows()})
    seen: set[tuple[int, int, int]] = set()
    for done, _ in finished(grid):
        for index in done:
            for axis in range(3):
                before = tuple(place - (number == axis) for number, place in enumerate(index))
                assert before in seen or before[axis] < 0
            seen.add(index)
    assert seen == set(grid.cells)


def test_little_of_a_large_volume_waits_for_later_windows() -> None:
    held = max(voxels for _, voxels in finished(WindowGrid((512, 512, 300), (96,) * 3, (0.25,) * 3)))
    # The layer of 24 voxels that two neighbouring layers share is 0.047 of it.
    assert held < 0.07 * 512 * 512 * 300


def test_the_last_two_layers_are_visited_together_if_they_share_more() -> None:
    along = [window[0].start for window in WindowGrid((44, 32, 16), (16,) * 3, (0.0,) * 3).windows()]
    assert along == [0, 0, 16, 28, 16, 28]
    along = [window[0].start for window in WindowGrid((48, 32, 16), (16,) * 3, (0.0,) * 3).windows()]
    assert along == [0, 0, 16, 16, 32, 32]
