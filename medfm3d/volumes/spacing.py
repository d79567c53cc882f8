"""Bringing scans to one voxel size within a MONAI pipeline."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Spacingd


class ResampleToSpacingd(Spacingd):
    """MONAI's `Spacingd`, beside entries that are named like metadata but are none.

    MONAI 1.6 calls `update` on every entry whose name starts with that of the image and an underscore. MONAI Label puts
    the scan's path there, as `image_path`, and needs it later; so it is kept out of `Spacingd`'s sight and put back.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return the data with the named entries resampled; see `Spacingd`."""
        hidden = {
            name: value
            for name, value in data.items()
            if not isinstance(value, dict) and any(str(name).startswith(f"{key}_") for key in self.keys)
        }
        visible = {name: value for name, value in data.items() if name not in hidden}
        return {**super().__call__(visible, lazy), **hidden}
