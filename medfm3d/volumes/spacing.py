"""Bringing scans to one voxel size within a MONAI pipeline."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Spacingd


class ResampleToSpacingd(Spacingd):
    """MONAI's `Spacingd`, beside entries that are named like metadata but are none.

    MONAI 1.6 calls `update` on every entry whose name starts with that of the image and an underscore. MONAI Label puts
    the scan's path there, as `image_path`, and needs it later; so it is kept out of `Spacingd`'s sight and put back.

    It computes in float32 unless told otherwise, where MONAI's default, float64, takes twice the memory and time.
    """

    def __init__(self, *args: Any, dtype: torch.dtype = torch.float32, **kwargs: Any) -> None:
        super().__init__(*args, dtype=dtype, **kwargs)

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return the data with the named entries resampled; see `Spacingd`."""
        hidden = {
            name: value
            for name, value in data.items()
            if not isinstance(value, dict) and any(str(name).startswith(f"{key}_") for key in self.keys)
        }
        visible = {name: value for name, value in data.items() if name not in hidden}
        return {**super().__call__(visible, lazy), **hidden}
