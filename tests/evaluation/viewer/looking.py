"""A scan to look at, the pixels that are seen, and a server that runs meanwhile."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page

from medfm3d.evaluation.viewer import ViewerServer
from medfm3d.volumes import Volume

ORGANS = {"left ball": 3, "right box": 7, "nowhere": 9}
COLOURS = {"left ball": (0x56, 0xB4, 0xE9), "right box": (0xE6, 0x9F, 0x00)}  # the first two of the palette


def pixels(part: Locator) -> np.ndarray:
    """What a part of a page shows, (rows, columns, RGB)."""
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB")).astype(int)


def shown(page: Page, organ: str) -> np.ndarray:
    """Where the canvas shows an opaque organ in a plane: (rows, columns), true or false."""
    return (np.abs(pixels(page.locator("canvas")) - COLOURS[organ]) < 12).all(axis=-1)


def ball_and_box(shift: int = 0, seed: int = 0) -> tuple[Volume, Volume]:
    """Scan (HU) and mask in RAS order, a ball in the patient's left half and a box in the right."""
    shape = (40, 36, 30)
    grid = np.indices(shape)
    mask = np.zeros(shape, np.uint8)
    mask[((grid - np.array([11, 18, 15 + shift]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) <= 36] = 3
    mask[26:34, 12:24, 8 : 16 + shift] = 7
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    scan = np.where(mask, 60, -20) + noise
    scan[0] = -1000
    affine = np.array([[1.5, 0, 0, -30], [0, 1.25, 0, 12], [0, 0, 2, -7], [0, 0, 0, 1]])
    return Volume(scan.astype(np.int16), affine), Volume(mask, affine)


@contextmanager
def serving(server: ViewerServer) -> Iterator[ViewerServer]:
    """Answer requests in another thread."""
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
