"""Hausdorff distance in millimetres as a metric of MONAI's engines."""

from collections.abc import Sequence

import torch
from monai.handlers import HausdorffDistance
from torch import Tensor


class HausdorffDistanceMm(HausdorffDistance):
    """MONAI's handler measures in voxels; this one takes each case's voxel size from its label's affine."""

    def update(self, output: Sequence[Sequence[Tensor]]) -> None:
        """Measure one batch: predictions and labels, MetaTensors (C, D, H, W) in one-hot format."""
        for prediction, label in zip(*output, strict=True):
            spacing_mm = torch.linalg.norm(label.affine[:3, :3].double(), dim=0).tolist()
            self.metric_fn(prediction[None].as_tensor(), label[None].as_tensor(), spacing=spacing_mm)
