"""Which visible tokens attend to each other in the windows of a Swin block."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from monai.networks.nets.swin_unetr import get_window_size
from torch import Tensor

ABSENT, PADDED = -1, -2  # in place of a token's row: hidden, or of another region; a zero token that pads the axis


@dataclass(frozen=True)
class GroupBatch:
    """Groups of one shape, whose attention is computed at once.

    Attributes:
        count: number of groups.
        positions: (length,) place of each token in its window, which says its relative positions.
        absent: (count, length) bool, True where there is no token to attend to; None if there is one everywhere.
    """

    count: int
    positions: Tensor
    absent: Tensor | None

    @property
    def length(self) -> int:
        """Tokens of a group, absent ones included."""
        return len(self.positions)

    @property
    def rows(self) -> int:
        """Tokens of all groups."""
        return self.count * self.length


class WindowGroups:
    """The visible tokens of each window and region, in batches of few shapes.

    A group holds what MONAI's block lets attend to each other: a shifted window that wraps around the volume falls into
    the regions that its attention mask keeps apart. A group is cut down to half of the window along every axis where
    its visible tokens fit into that, so that windows at the border of visible units cost about what they hold, and
    there are no more than eight shapes.

    Args:
        batches: the groups.
        index: (R,) the row of each token of all batches among the visible tokens, or ABSENT or PADDED.
        tokens: number of visible tokens.
    """

    def __init__(self, batches: Sequence[GroupBatch], index: Tensor, tokens: int) -> None:
        self.batches = list(batches)
        real = (index >= 0).nonzero()[:, 0]
        self._places = torch.empty(tokens, dtype=torch.long, device=index.device)
        self._places[index[real]] = real
        self._empty = (index < 0).nonzero()[:, 0]
        self._index = index.clamp_min(0)

    @classmethod
    def of_visible(cls, hidden: Tensor, side: int, window: Sequence[int], shift: Sequence[int]) -> "WindowGroups":
        """Return the groups of a block.

        Args:
            hidden: (B, d, h, w) bool over the grid of mask units.
            side: tokens of a unit along each axis.
            window: the block's window size in tokens.
            shift: its shift.
        """
        size = [cells * side for cells in hidden.shape[1:]]
        used, shift = get_window_size(size, window, shift)
        table = _token_rows(hidden, side, size, used, shift)
        # Where a window shrank, MONAI reads relative positions as if it had not: they depend on the place, too.
        halves = used if tuple(used) != tuple(window) else [-(-w // 2) for w in used]
        batches, index = [], []
        for part in _by_shape(table, halves):
            absent = part.flatten(1) == ABSENT
            whole = ~absent.any(dim=1)
            positions = _positions(part.shape[1:], used, table.device)
            for chosen, mask in ((part[whole], None), (part[~whole], absent[~whole])):
                if len(chosen):
                    batches.append(GroupBatch(len(chosen), positions, mask))
                    index.append(chosen.flatten())
        return cls(batches, torch.cat(index), int((~hidden).sum()) * side**3)

    def gather(self, tokens: Tensor) -> Tensor:
        """Return (R, C): the tokens of all groups, batch after batch, of (tokens, C); absent and padded ones are 0."""
        return _Rows.apply(tokens, self._index, self._empty, self._places, None)

    def scatter(self, values: Tensor) -> Tensor:
        """Return (tokens, C): each token's own row of (R, C), the inverse of `gather`."""
        return _Rows.apply(values, self._places, None, self._index, self._empty)


class _Rows(torch.autograd.Function):
    """Rows of a matrix by number, each taken once at most, so that the gradient is rows by number as well."""

    @staticmethod
    def forward(ctx, x, index, empty, inverse, inverse_empty):
        ctx.save_for_backward(inverse, inverse_empty)
        return _rows(x, index, empty)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return _rows(gradient, *ctx.saved_tensors), None, None, None, None


def _rows(x: Tensor, index: Tensor, empty: Tensor | None) -> Tensor:
    rows = x.index_select(0, index)
    return rows if empty is None or not len(empty) else rows.index_fill_(0, empty, 0)


def _axis_groups(length: int, window: int, shift: int) -> Tensor:
    """Return (groups, window) tokens along an axis by their place in the window, ABSENT if of another region.

    Numbers from `length` on are padding.
    """
    padded = -(-length // window) * window
    groups = ((torch.arange(padded) + shift) % padded).view(-1, window)
    if not shift:
        return groups
    # The last window wraps around: its two ends are not neighbours.
    first, second = groups[-1:].clone(), groups[-1:].clone()
    first[:, window - shift :] = ABSENT
    second[:, : window - shift] = ABSENT
    return torch.cat((groups[:-1], first, second))


def _token_rows(hidden: Tensor, side: int, size: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> Tensor:
    """Return (groups, *window), for groups that hold any: each token's row among the visible ones, ABSENT or PADDED."""
    device = hidden.device
    visible = ~hidden
    # Units are numbered over the whole batch, since every sample's visible units follow those of the one before.
    rank = torch.full(hidden.shape, -1, device=device)
    rank[visible] = torch.arange(int(visible.sum()), device=device)
    unit, cell, absent, padded = 0, 0, False, False
    for axis, (cells, length) in enumerate(zip(hidden.shape[1:], size, strict=True)):
        tokens = _axis_groups(length, window[axis], shift[axis]).to(device)
        tokens = tokens.view([1] * (2 * axis) + [*tokens.shape] + [1] * (4 - 2 * axis))
        inside = tokens.clamp(0, length - 1)
        unit = unit * cells + inside // side
        cell = cell * side + inside % side
        absent = absent | (tokens == ABSENT)
        padded = padded | (tokens >= length)
    unit_rank = rank.flatten(1)[:, unit]
    rows = torch.where(unit_rank >= 0, unit_rank * side**3 + cell, ABSENT)
    rows = rows.masked_fill(padded, PADDED).masked_fill(absent, ABSENT)
    rows = rows.permute(0, 1, 3, 5, 2, 4, 6).flatten(0, 3)
    return rows[(rows >= 0).flatten(1).any(dim=1)]


def _by_shape(rows: Tensor, halves: Sequence[int]) -> Iterator[Tensor]:
    """Yield (groups, ...) parts of (groups, *window), each cut to half or whole along every axis, whatever suffices."""
    there = rows != ABSENT
    starts, fits = [], []
    for axis, half in enumerate(halves, start=1):
        along = there.any(dim=tuple({1, 2, 3} - {axis})).byte()
        first, last = along.argmax(dim=1), along.shape[1] - 1 - along.flip(1).argmax(dim=1)
        fits.append(last - first < half)
        starts.append(first.clamp_max(along.shape[1] - half))
    for shape in itertools.product((True, False), repeat=3):
        chosen = torch.stack([fit if cut else ~fit for fit, cut in zip(fits, shape, strict=True)]).all(dim=0)
        chosen = chosen.nonzero()[:, 0]
        if not len(chosen):
            continue
        places = []
        for axis, cut in enumerate(shape):
            length = halves[axis] if cut else rows.shape[axis + 1]
            start = starts[axis][chosen] if cut else torch.zeros_like(chosen)
            place = start[:, None] + torch.arange(length, device=rows.device)
            places.append(place.view([len(chosen)] + [1] * axis + [length] + [1] * (2 - axis)))
        yield rows[chosen[:, None, None, None], places[0], places[1], places[2]]


def _positions(shape: Sequence[int], window: Sequence[int], device: torch.device) -> Tensor:
    """Return the flat places in a window of the tokens of a box in its corner."""
    i, j, k = (torch.arange(side, device=device) for side in shape)
    return ((i[:, None, None] * window[1] + j[:, None]) * window[2] + k).flatten()
