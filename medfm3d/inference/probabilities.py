"""Writing the probability of each organ beside the mask."""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged

from medfm3d.inference.reduce_to_input_grid import reduce_to_input_grid
from medfm3d.inference.score_reduction import KeepLogits
from medfm3d.volumes import Volume, output_name, write_volume


class SaveProbabilitiesd(SaveImaged):
    """Write one float32 volume per organ, NAME_ORGAN_probability, on the input's grid, one organ after the other.

    It is a `SaveImaged` because tools that return the result themselves, MONAI Label among them, drop those.

    Args:
        keys: logits, MetaTensors (1 + organs, D, H, W), background first, on the scan's grid or that of a box of it.
        organs: names in channel order; in a file's name, what stands between words of one becomes an underscore.
        output_dir: folder to write to.
        output_ext: file type, such as ".nii.gz".
        image_key: entry of the scan, whose metadata tell the grid of the file.

    Raises:
        ValueError: if the files of two organs would have the same name.
    """

    def __init__(
        self,
        keys: KeysCollection,
        organs: Sequence[str],
        output_dir: str | Path,
        output_ext: str,
        image_key: str = "image",
    ) -> None:
        MapTransform.__init__(self, keys)
        self.image_key = image_key
        self.organs = tuple(organs)
        self.names = [re.sub(r"[^\w.+-]+", "_", organ) for organ in self.organs]
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"probabilities of {', '.join(organs)} would be files of one name; rename organs")
        self.output_dir = Path(output_dir)
        self.output_ext = output_ext

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the volumes and return the data unchanged."""
        result = dict(data)
        scan = result[self.image_key]
        stem = output_name(scan.meta["filename_or_obj"])
        affine = np.asarray(scan.meta["original_affine"], dtype=np.float64)
        for key in self.key_iterator(result):
            logits = result[key].as_tensor().float().cpu()
            total = logits.logsumexp(dim=0, keepdim=True)
            for name, channel in zip(self.names, logits[1:], strict=True):
                probability = MetaTensor((channel[None] - total).exp(), affine=result[key].affine)
                volume = Volume(reduce_to_input_grid(probability, scan, KeepLogits())[0].numpy(), affine)
                file_name = f"{stem}_{name}_probability{self.output_ext}"
                write_volume(volume, self.output_dir / file_name)
        return result
