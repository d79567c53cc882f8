"""What the shipped encoder says of a scan as a whole."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medfm3d.encoders import Encoder, load_encoder
from medfm3d.inference import bundle_template
from medfm3d.volumes import IntensityNormalized, detect_modality, read_volume, reorient, resample

LONGEST_SIDE = 64  # voxels, after resampling to equal sides; more says little more of a whole scan
FINEST_MM = 1.0  # the voxel size for smaller scans


@torch.no_grad()
def scan_features(path: str | Path) -> np.ndarray:
    """Return the mean of the encoder's features over a scan, (channels,), float32.

    The scan is brought to RAS orientation and equal voxel sides, of 1 mm or so that 64 of them span it.

    Raises:
        VolumeError: if the scan is unusable.
    """
    volume = reorient(read_volume(path))
    modality = detect_modality(volume.array)
    extent = max(size * side for size, side in zip(volume.spacing_mm, volume.shape, strict=True))
    small = resample(volume, max(FINEST_MM, extent / LONGEST_SIDE))
    image = torch.as_tensor(np.ascontiguousarray(small.array, dtype=np.float32))[None]
    image = IntensityNormalized(keys="image", modality=modality)({"image": image})["image"]
    encoder = _encoder()
    maps = encoder(_padded(torch.as_tensor(image)[None], max(encoder.strides)))
    return maps[-1].mean(dim=(0, 2, 3, 4)).float().numpy()


@lru_cache(maxsize=1)
def _encoder() -> Encoder:
    return load_encoder(bundle_template("fewshot_organ_segmentation") / "models" / "encoder.safetensors").eval()


def _padded(x: Tensor, multiple: int) -> Tensor:
    """Repeat the far edges until all sides are multiples."""
    missing = [-side % multiple for side in reversed(x.shape[2:])]
    return F.pad(x, [value for side in missing for value in (0, side)], mode="replicate")
