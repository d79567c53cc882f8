"""A few gradient steps on a query's own windows that bring its organs towards the size that is expected."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from medfm3d.segmentation import Segmenter

TOLERANCE = 0.3
WEIGHT = 0.1
SEEN = 0.05  # probability of an organ from which on a tile takes part
# Probabilities are sharpened before they are summed. As they are, a thousandth in each voxel of a trunk is 50 mL of an
# organ that no mask would show; squared, it is nothing, and voxels at the organ's border still say which way to go.
SHARPNESS = 2.0


@dataclass(frozen=True)
class Tile:
    """A window of a query: where it lies, and the part of it that no other tile has.

    Attributes:
        place: slices (D, H, W) in the query; sides of the window, or of the query where that is smaller.
        own: slices (D, H, W) in the window.
    """

    place: tuple[slice, ...]
    own: tuple[slice, ...]


def size_error(volume: Tensor, expected: Tensor) -> Tensor:
    """Return e = (p - p_hat) / max(p_hat, p) of volumes p_hat and expected ones p; above 0 where one is too small."""
    return (expected - volume) / torch.maximum(expected, volume)


def size_penalty(volume: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Return the sum over organs of relu(|e| - tolerance): 0 where all are within the tolerance (FSEFT)."""
    return F.relu(size_error(volume, expected).abs() - tolerance).sum()


def tiles(shape: Sequence[int], window: Sequence[int]) -> list[Tile]:
    """Cut a grid (D, H, W) into windows whose own parts cover each voxel once; the last ones are moved inwards."""
    axes = []
    for extent, side in zip(shape, window, strict=True):
        starts = range(0, extent, side)
        first = [max(0, min(start, extent - side)) for start in starts]
        axes.append(
            [
                (slice(begin, min(begin + side, extent)), slice(start - begin, min(start + side, extent) - begin))
                for start, begin in zip(starts, first, strict=True)
            ]
        )
    return [Tile(tuple(a for a, _ in parts), tuple(b for _, b in parts)) for parts in product(*axes)]


class SizeRefinement:
    """Refine a segmenter's last weights on one query under a constraint on organ volumes.

    The loss is FSEFT's penalty on the size (weight 0.1) plus what holds the rest in place. FSEFT goes on training on
    the support set meanwhile. A bundle brings no scans, so here the cross-entropy to the segmenter's own first answer
    stands for the support set: voxels change where the size asks for it and the answer was least certain.

    The volume of an organ is a sum over all windows of the query, which do not fit into memory together with their
    gradients. Its derivative is the penalty's derivative by the volume, known from a first pass, times that of each
    window's part: two passes over the windows give the exact gradient, a window at a time. What comes in front of the
    refined weights is computed once for each window and kept in half precision.

    Source: Silva-Rodriguez, Dolz and Ben Ayed, Medical Image Analysis 2025, section on transductive inference.

    Args:
        network: the segmenter, in evaluation mode; `restore` gives it back its weights.
        query: preprocessed scan (1, C, D, H, W).
        probabilities: its first answer (1, 1 + organs, D, H, W), from which the tiles that matter are chosen.
        window: sides of a window in voxels.
        voxel_volume_ml: of a voxel of the query.
    """

    def __init__(
        self,
        network: Segmenter,
        query: Tensor,
        probabilities: Tensor,
        window: Sequence[int],
        voxel_volume_ml: float,
    ) -> None:
        self.network = network
        self.voxel_volume_ml = voxel_volume_ml
        self.device = device = next(network.parameters()).device
        self.weights = network.method.refined_parameters(network)
        self.before = [(weight.detach().clone(), weight.requires_grad) for weight in self.weights]
        self.inputs: list[tuple[Tensor, Tile, Tensor]] = []
        for tile in tiles(query.shape[2:], window):
            inside = (slice(None), slice(None), *tile.place)
            if probabilities[inside][(slice(None), slice(1, None), *tile.own)].max() < SEEN:
                continue
            with torch.no_grad():
                unrefined = network.unrefined(_padded(query[inside].to(device), window)).half().cpu()
                answer = self._logits(unrefined, tile).softmax(dim=1).half().cpu()
            self.inputs.append((unrefined, tile, answer))

    @torch.no_grad()
    def volumes_ml(self) -> Tensor:
        """Return the volume of each organ by the present weights: the sum of its sharpened probabilities."""
        parts = [self._volumes_ml(self._logits(unrefined, tile)).cpu() for unrefined, tile, _ in self.inputs]
        return torch.stack(parts).sum(dim=0)

    def run(self, expected_ml: Mapping[int, float], *, steps: int, learning_rate: float) -> int:
        """Refine until the organs named are within the tolerance, or for `steps` at most; returns the steps taken.

        Args:
            expected_ml: expected volume by number of the organ, counted from 0.
            steps: largest number of steps.
            learning_rate: of Adam.
        """
        organs = list(expected_ml)
        expected = torch.tensor([expected_ml[organ] for organ in organs])
        optimizer = torch.optim.Adam([weight.requires_grad_() for weight in self.weights], lr=learning_rate)
        for step in range(steps if self.inputs else 0):
            volumes = self.volumes_ml()
            reached = volumes[organs].requires_grad_()
            with torch.enable_grad():
                penalty = size_penalty(reached, expected)
            if penalty == 0:
                return step
            slope = torch.zeros_like(volumes)
            slope[organs] = WEIGHT * torch.autograd.grad(penalty, reached)[0]
            optimizer.zero_grad()
            with torch.enable_grad():
                for part in self._losses(slope.to(self.device)):
                    part.backward()
            optimizer.step()
        return steps if self.inputs else 0

    def restore(self) -> None:
        """Give the network back the weights that it had."""
        with torch.no_grad():
            for weight, (value, trained) in zip(self.weights, self.before, strict=True):
                weight.copy_(value)
                weight.requires_grad_(trained)
                weight.grad = None

    def _losses(self, slope: Tensor) -> Iterator[Tensor]:
        voxels = sum(answer[0, 0].numel() for _, _, answer in self.inputs)
        for unrefined, tile, answer in self.inputs:
            logits = self._logits(unrefined, tile)
            held = -(answer.to(self.device) * logits.log_softmax(dim=1)).sum() / voxels
            yield held + (slope * self._volumes_ml(logits)).sum()

    def _logits(self, unrefined: Tensor, tile: Tile) -> Tensor:
        logits = self.network.refine(unrefined.to(self.device).float())
        sides = [place.stop - place.start for place in tile.place]
        return _unpadded(logits, sides)[(slice(None), slice(None), *tile.own)]

    def _volumes_ml(self, logits: Tensor) -> Tensor:
        return (SHARPNESS * logits).softmax(dim=1)[:, 1:].sum(dim=(0, 2, 3, 4)) * self.voxel_volume_ml


def _margins(sides: Sequence[int], window: Sequence[int]) -> list[int]:
    return [(side - extent) // 2 for extent, side in zip(sides, window, strict=True)]


def _padded(x: Tensor, window: Sequence[int]) -> Tensor:
    """Pad (1, C, D, H, W) to a window on both sides by its edge voxels, as the sliding window does with small scans."""
    sides = x.shape[2:]
    amounts: list[int] = []
    for front, extent, side in reversed(list(zip(_margins(sides, window), sides, window, strict=True))):
        amounts += [front, side - extent - front]
    return F.pad(x, amounts, mode="replicate") if any(amounts) else x


def _unpadded(x: Tensor, sides: Sequence[int]) -> Tensor:
    """Take from a padded window (1, C, D, H, W) what `_padded` put in."""
    fronts = _margins(sides, x.shape[2:])
    inside = (slice(front, front + side) for front, side in zip(fronts, sides, strict=True))
    return x[(slice(None), slice(None), *inside)]
