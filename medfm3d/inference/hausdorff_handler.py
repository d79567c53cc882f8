"""Hausdorff distance in millimetres as a metric of MONAI's engines."""

from collections.abc import Sequence

from monai.data import MetaTensor
from monai.handlers import HausdorffDistance


class HausdorffDistanceMm(HausdorffDistance):
    """MONAI's handler measures in voxels; this one takes each case's voxel size from its label's affine."""

    def update(self, output: Sequence[Sequence[MetaTensor]]) -> None:
        """Measure one batch: predictions and labels, MetaTensors (C, D, H, W) in one-hot format."""
        for prediction, label in zip(*output, strict=True):
            pair = prediction[None].as_tensor(), label[None].as_tensor()
            self.metric_fn(*pair, spacing=label.pixdim.tolist())
