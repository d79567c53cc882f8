"""Features of single voxels from a frozen encoder."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medfm3d.encoders import Encoder
from medfm3d.volumes.window_sampling import sample_at


@torch.no_grad()
def voxel_features(encoder: Encoder, image: Tensor, places: Tensor, window: Sequence[int]) -> Tensor:
    """Return (N, sum of channels): all maps of the pyramid, interpolated trilinearly at each voxel.

    Windows overlap by half, and a voxel's features come from the window in whose middle it lies best. Only windows that
    are needed are computed. An image smaller than a window is padded with its least value.

    Args:
        encoder: in evaluation mode.
        image: (1, I, J, K).
        places: (N, 3) voxel coordinates.
        window: sides in voxels, multiples of the encoder's coarsest stride.
    """
    missing = [max(0, side - extent) for side, extent in zip(window, image.shape[1:], strict=True)]
    image = F.pad(image, [n for amount in reversed(missing) for n in (0, amount)], value=image.min().item())
    starts = torch.stack(
        [_nearest_start(places[:, axis], image.shape[axis + 1], side) for axis, side in enumerate(window)],
        dim=1,
    )
    features = torch.empty(len(places), sum(encoder.channels))
    for start in starts.unique(dim=0):
        here = (starts == start).all(dim=1)
        cut = image[(slice(None), *(slice(int(a), int(a) + side) for a, side in zip(start, window, strict=True)))]
        inside = (places[here] - start).float()[None, None]
        maps = encoder(cut[None])
        sampled = [
            # A cell's value stands for its middle.
            sample_at(m[0], (inside + 0.5) / stride - 0.5, "bilinear", "border")[:, 0, 0]
            for m, stride in zip(maps, encoder.strides, strict=True)
        ]
        features[here] = torch.cat(sampled).T
    return features


def _nearest_start(places: Tensor, extent: int, side: int) -> Tensor:
    """Return the start of that window along one axis whose middle is nearest to each place."""
    steps = max(1, -(-2 * (extent - side) // side)) if extent > side else 0
    starts = torch.tensor([round(n * (extent - side) / max(1, steps)) for n in range(steps + 1)])
    middle = starts + (side - 1) / 2
    return starts[(places[:, None] - middle).abs().argmin(dim=1)]
