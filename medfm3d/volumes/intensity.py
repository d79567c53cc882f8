"""Bringing intensities to what networks expect: about zero mean and unit spread over what matters."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medfm3d.volumes.plain_tensor import plain_tensor

CT_AIR_HU = -500.0
CT_WINDOW_HU = (-200.0, 300.0)
# About the median, over 20 head-and-neck CTs, of the mean and spread of what lies within that window; single scans
# have means of -31 to 51 HU, with the share of fat, and spreads of 67 to 86 HU.
CT_CENTRE_HU = 10.0
CT_SPREAD_HU = 80.0
CT_AIR = (CT_WINDOW_HU[0] - CT_CENTRE_HU) / CT_SPREAD_HU  # what air becomes, and all that is darker than the window
MR_PERCENTILES = (0.5, 99.5)


def detect_modality(array: np.ndarray | torch.Tensor) -> str:
    """Return "CT" if the intensities reach below -500, else "MR".

    Only Hounsfield units go there: every CT has air at -1000 HU around or inside the patient, and MR is not negative
    (a little, after some reconstructions). A CT cropped to soft tissue is taken for MR: state the modality then.
    """
    return "CT" if float(array.min()) <= CT_AIR_HU else "MR"


class IntensityNormalized(MapTransform):
    """Standardise a scan's intensities.

    CT is clipped to a window of soft tissue and brought to a fixed scale, so that a Hounsfield unit, which means the
    same in every scan, looks the same in every scan. MR has no such unit: it is clipped to its percentiles, by default
    0.5 and 99.5, and standardised by mean and standard deviation over all voxels. Statistics come from the whole scan,
    so windows of one scan fit together.

    Args:
        keys: entries of shape (1, D, H, W).
        modality: "CT", "MR", or "auto": see `detect_modality`.
        ct_window_hu: lower and upper end of the CT window; the default covers fat, soft tissue and enhanced vessels.
        mr_percentiles: percentiles of the intensities at which MR is clipped.

    Raises:
        ValueError: for an unknown modality.
    """

    def __init__(
        self,
        keys: KeysCollection,
        modality: str = "auto",
        ct_window_hu: tuple[float, float] = CT_WINDOW_HU,
        mr_percentiles: tuple[float, float] = MR_PERCENTILES,
    ) -> None:
        super().__init__(keys)
        if modality not in ("auto", "CT", "MR"):
            raise ValueError(f"unknown modality {modality!r}: choose auto, CT or MR")
        self.modality = modality
        self.ct_window_hu = ct_window_hu
        self.mr_percentiles = mr_percentiles

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the named entries standardised, as float32."""
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            # Sums depend on the order of voxels in memory, which differs between stored orientations; made contiguous
            # in the common orientation, equal scans give equal statistics to the last bit.
            plain = plain_tensor(tensor)
            standardised = self._standardise(plain.float().contiguous())
            result[key] = (
                MetaTensor(standardised).copy_meta_from(tensor) if isinstance(tensor, MetaTensor) else standardised
            )
        return result

    def _standardise(self, x: torch.Tensor) -> torch.Tensor:
        modality = detect_modality(x) if self.modality == "auto" else self.modality
        if modality == "CT":
            return (x.clamp(*self.ct_window_hu) - CT_CENTRE_HU) / CT_SPREAD_HU
        low, high = np.percentile(x.cpu().numpy(), self.mr_percentiles).tolist()
        clipped = x.clamp(low, high)
        mean, spread = clipped.mean(dtype=torch.float64), clipped.double().std()
        return ((clipped - mean) / spread.clamp(min=1e-6)).float()
