"""Writing the probability of each organ beside the mask."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged

from medfm3d.volumes import Volume, output_name, write_volume


class SaveProbabilitiesd(SaveImaged):
    """Write one float32 volume per organ, NAME_ORGAN_probability, on the input's grid.

    It is a `SaveImaged` because tools that return the result themselves, MONAI Label among them, drop those.

    Args:
        keys: entries of shape (1 + organs, D, H, W), background first, values in [0, 1].
        organs: names in channel order.
        output_dir: folder to write to.
        output_ext: file type, such as ".nii.gz".
    """

    def __init__(self, keys: KeysCollection, organs: Sequence[str], output_dir: str | Path, output_ext: str) -> None:
        MapTransform.__init__(self, keys)
        self.organs = tuple(organs)
        self.output_dir = Path(output_dir)
        self.output_ext = output_ext

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the volumes and return the data unchanged."""
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            stem = output_name(tensor.meta["filename_or_obj"])
            affine = np.asarray(tensor.affine, dtype=np.float64)
            for organ, channel in zip(self.organs, tensor[1:], strict=True):
                file_name = f"{stem}_{organ.replace(' ', '_')}_probability{self.output_ext}"
                volume = Volume(np.asarray(channel.cpu(), dtype=np.float32), affine)
                write_volume(volume, self.output_dir / file_name)
        return result
