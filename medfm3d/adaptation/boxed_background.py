"""Training windows inside the organs' box alone."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medfm3d.volumes import mask_box


class KeepBackgroundInBoxd(MapTransform):
    """Forget the background voxels outside the box around all organs, so that no window is drawn around them.

    Windows are drawn around voxels of `LABEL_cls_indices`, as `monai.transforms.ClassesToIndicesd` lists them for each
    class: with this behind it, every window has its middle in the box, as every window has in boxed inference.

    Args:
        keys: label maps in network channels, (1, D, H, W) each.
        margin: voxels added to the box at every face.
        suffix: what `ClassesToIndicesd` appended to the key.
    """

    def __init__(self, keys: KeysCollection, margin: int = 8, suffix: str = "_cls_indices") -> None:
        super().__init__(keys)
        self.margin = margin
        self.suffix = suffix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with fewer background voxels listed; those of a case without organs are all kept."""
        result = dict(data)
        for key in self.key_iterator(result):
            mask = np.asarray(result[key].cpu())[0] > 0
            if not mask.any():
                continue
            box = mask_box(mask)
            low = np.array([side.start for side in box]) - self.margin
            high = np.array([side.stop - 1 for side in box]) + self.margin
            background, *organs = result[f"{key}{self.suffix}"]
            places = np.stack(np.unravel_index(np.asarray(background), mask.shape), axis=-1)
            inside = ((places >= low) & (places <= high)).all(axis=-1)
            result[f"{key}{self.suffix}"] = [np.asarray(background)[inside], *organs]
        return result
