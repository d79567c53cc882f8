"""DINOv2 on volumes: an encoder learns from its own moving average."""

from medfm3d.pretraining.dino.block_masks import block_masks
from medfm3d.pretraining.dino.collapse_monitor import CollapseMonitor, FeatureCollapseError
from medfm3d.pretraining.dino.dino_loss import dino_loss
from medfm3d.pretraining.dino.dino_module import DINOModule
from medfm3d.pretraining.dino.export_teacher import ExportTeacher
from medfm3d.pretraining.dino.head import PrototypeHead
from medfm3d.pretraining.dino.ibot_loss import ibot_loss
from medfm3d.pretraining.dino.koleo_loss import koleo_loss
from medfm3d.pretraining.dino.multi_crop import MultiCropDataset, view_transform
from medfm3d.pretraining.dino.multi_crop_data import MultiCropData
from medfm3d.pretraining.dino.self_distillation import DistillationLosses, SelfDistillation, hidden_cells
from medfm3d.pretraining.dino.sinkhorn import sinkhorn_knopp

__all__ = [
    "CollapseMonitor",
    "DINOModule",
    "DistillationLosses",
    "ExportTeacher",
    "FeatureCollapseError",
    "MultiCropData",
    "MultiCropDataset",
    "PrototypeHead",
    "SelfDistillation",
    "block_masks",
    "dino_loss",
    "hidden_cells",
    "ibot_loss",
    "koleo_loss",
    "sinkhorn_knopp",
    "view_transform",
]
