"""The teacher's encoder as a weights file."""

from typing import Any

import lightning.pytorch as pl

from medfm3d.encoders import Encoder
from medfm3d.pretraining.export_encoder import ExportEncoder


class ExportTeacher(ExportEncoder):
    """At the end of training, write the teacher's encoder, which is better than the student's (Caron et al. 2021)."""

    def encoder(self, pl_module: pl.LightningModule) -> Encoder:
        """Return the teacher's encoder."""
        return pl_module.network.teacher.encoder

    def method(self, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what the header says of the method."""
        return {"method": "self-distillation (DINOv2)", "ibot_weight": pl_module.ibot_weight}
