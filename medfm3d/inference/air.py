"""Windows that hold nothing but air."""

from torch import Tensor

from medfm3d.volumes.intensity import CT_AIR

TOLERANCE = 1e-3


class SkipAir:
    """Says of a window that every voxel of it is as dark as air, so that no organ can be in it.

    `IntensityNormalized` brings all of a CT at and below -200 HU to one value. A window of nothing else is air around
    or within the patient; lungs alone would be too, but no window of some centimetres in them is without a vessel,
    unless they are diseased: where lungs themselves are the organ, do without. MR has no such value.

    Args:
        value: intensity of air.
    """

    def __init__(self, value: float = CT_AIR) -> None:
        self.value = value

    def __call__(self, window: Tensor) -> bool:
        """Return whether a window (C, d, h, w) is air."""
        return bool(window.amax() <= self.value + TOLERANCE)
