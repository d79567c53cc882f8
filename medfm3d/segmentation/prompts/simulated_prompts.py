"""What an annotator might point at, and how: simulated for training."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cc3d
import numpy as np
import torch
from torch import Tensor

from medfm3d.segmentation.prompts.click_simulation import Click, first_click, next_click
from medfm3d.segmentation.prompts.prompt_maps import stacked_maps
from medfm3d.volumes import mask_box

LEAST_VOXELS = 20
LARGEST_SHARE = 0.5  # of a window: nobody points at more
ONE_PIECE = 0.6  # how often one piece is meant of a label with several
FIRST_PROMPTS = {"click": 0.6, "box": 0.15, "flat box": 0.1, "scribble": 0.1, "name": 0.05}
SCRIBBLE_POINTS = (3, 15)


@dataclass(frozen=True)
class SimulatedPrompt:
    """Prompts given so far on one window.

    Attributes:
        foreground: voxels, each (i, j, k).
        background: the same.
        boxes: first and last voxel of each.
        organ: number of the organ's name, 0 if none was given.
    """

    foreground: list[tuple[float, ...]] = field(default_factory=list)
    background: list[tuple[float, ...]] = field(default_factory=list)
    boxes: list[tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=list)
    organ: int = 0

    def with_click(self, click: Click) -> "SimulatedPrompt":
        """Return the prompts with one click more."""
        if click.foreground:
            return replace(self, foreground=[*self.foreground, click.point])
        return replace(self, background=[*self.background, click.point])

    def maps(self, window: Sequence[int], previous: Tensor | None) -> Tensor:
        """Return the channels, (4, D, H, W); see `stacked_maps`."""
        boxes = np.asarray(self.boxes, dtype=float)
        return stacked_maps(self.foreground, self.background, boxes, previous, window)


def draw_target(label: np.ndarray, rng: np.random.Generator, *, unlabelled: bool) -> tuple[np.ndarray, int] | None:
    """Draw what is meant in a window: a label, or one connected piece of it.

    Args:
        label: (D, H, W) integers.
        rng: source of randomness.
        unlabelled: whether 0 means that a voxel was not outlined, so that nobody asks for it.

    Returns:
        The mask (D, H, W) bool and the label's number; None if no label has a fitting size.
    """
    numbers, counts = np.unique(label, return_counts=True)
    fitting = (counts >= LEAST_VOXELS) & (counts <= LARGEST_SHARE * label.size) & ((numbers != 0) | (not unlabelled))
    if not fitting.any():
        return None
    number = int(rng.choice(numbers[fitting]))
    mask = label == number
    if rng.random() < ONE_PIECE:
        pieces = cc3d.connected_components(mask, connectivity=6)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        large = np.flatnonzero(sizes >= LEAST_VOXELS)
        if len(large):
            mask = pieces == rng.choice(large, p=sizes[large] / sizes[large].sum())
    return mask, number


def first_prompt(target: np.ndarray, organ: int, rng: np.random.Generator) -> SimulatedPrompt:
    """Draw how a target is first pointed at; half of the time its name is given too.

    Args:
        target: (D, H, W) bool.
        organ: number of its name, 0 if that is not known: then something beside the name is always given.
        rng: source of randomness.
    """
    kinds, chances = zip(*FIRST_PROMPTS.items(), strict=True)
    kind = str(rng.choice(kinds, p=chances))
    named = organ if kind == "name" or rng.random() < 0.5 else 0
    if kind == "name" and organ:
        return SimulatedPrompt(organ=organ)
    if kind == "box":
        return SimulatedPrompt(boxes=[_loose_box(mask_box(target), target.shape, rng)], organ=named)
    if kind == "flat box":
        return SimulatedPrompt(boxes=[_flat_box(target, rng)], organ=named)
    if kind == "scribble":
        return SimulatedPrompt(foreground=_scribble(target, rng), organ=named)
    return SimulatedPrompt(organ=named).with_click(first_click(target, rng))


def corrected(
    prompt: SimulatedPrompt, target: np.ndarray, predicted: np.ndarray, rng: np.random.Generator
) -> SimulatedPrompt:
    """Return the prompts with a click in the largest error, if there is one."""
    click = next_click(target, predicted, rng)
    return prompt if click is None else prompt.with_click(click)


def as_target(mask: np.ndarray) -> Tensor:
    """Return a mask as what a loss compares with, (1, D, H, W) float32."""
    return torch.from_numpy(mask)[None].float()


def _loose_box(
    box: tuple[slice, ...], window: Sequence[int], rng: np.random.Generator
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return first and last voxel of a box, each side moved by up to a tenth of its length, and at least a voxel."""
    low, high = np.array([part.start for part in box]), np.array([part.stop - 1 for part in box])
    slack = np.maximum(1, (high - low) * 0.1)
    low = np.round(low + rng.uniform(-slack, slack / 2))
    high = np.round(high + rng.uniform(-slack / 2, slack))
    low, high = np.clip(low, 0, np.array(window) - 1), np.clip(high, 0, np.array(window) - 1)
    return tuple(np.minimum(low, high).tolist()), tuple(np.maximum(low, high).tolist())


def _flat_box(target: np.ndarray, rng: np.random.Generator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a box around the target's part on one slice near its middle."""
    axis = int(rng.integers(3))
    shown = target.sum(axis=tuple(other for other in range(3) if other != axis)).astype(float)
    place = int(rng.choice(len(shown), p=shown / shown.sum()))
    flat = np.zeros_like(target)
    where = tuple(slice(place, place + 1) if other == axis else slice(None) for other in range(3))
    flat[where] = target[where]
    low, high = (list(corner) for corner in _loose_box(mask_box(flat), target.shape, rng))
    low[axis] = high[axis] = float(place)
    return tuple(low), tuple(high)


def _scribble(target: np.ndarray, rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Return voxels of the target along a line between two of its inner voxels."""
    first, last = (np.array(first_click(target, rng).point, dtype=float) for _ in range(2))
    count = int(rng.integers(*SCRIBBLE_POINTS))
    line = np.round(first + np.linspace(0, 1, count)[:, None] * (last - first)).astype(int)
    inside = [tuple(float(x) for x in point) for point in line if target[tuple(point)]]
    return inside or [tuple(first.tolist())]
