"""Adaptation: a pretrained network and K labelled scans become an organ segmenter."""

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter, FeatureClassifier, TrainingDefaults
from medfm3d.adaptation.augmentation import training_augmentation
from medfm3d.adaptation.box_adapter import BoxAdapter, SpatialAdapter
from medfm3d.adaptation.check import check_adapter
from medfm3d.adaptation.decoder_tuning import DecoderTuning
from medfm3d.adaptation.deformed_window import RandDeformedWindowd
from medfm3d.adaptation.ema import EMAWeights
from medfm3d.adaptation.full_tuning import FullTuning
from medfm3d.adaptation.linear_probe import LinearProbe
from medfm3d.adaptation.organ_channels import ChannelsToLabelIds, LabelIdsToChannels
from medfm3d.adaptation.plan import AdaptationPlan, plan_adaptation, read_support
from medfm3d.adaptation.registry import ADAPTERS, create_adapter
from medfm3d.adaptation.support import choose_support
from medfm3d.adaptation.support_dataset import SupportDataset

__all__ = [
    "ADAPTERS",
    "AdaptableNetwork",
    "AdaptationPlan",
    "Adapter",
    "BoxAdapter",
    "ChannelsToLabelIds",
    "DecoderTuning",
    "EMAWeights",
    "FeatureClassifier",
    "FullTuning",
    "LabelIdsToChannels",
    "LinearProbe",
    "RandDeformedWindowd",
    "SpatialAdapter",
    "SupportDataset",
    "TrainingDefaults",
    "check_adapter",
    "choose_support",
    "create_adapter",
    "plan_adaptation",
    "read_support",
    "training_augmentation",
]
