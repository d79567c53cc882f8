"""Adaptation: a pretrained network and K labelled scans become an organ segmenter."""

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter, FeatureClassifier, TrainingDefaults, equal_epochs
from medfm3d.adaptation.augmentation import DEFAULT_GROUPS, GROUPS, training_augmentation
from medfm3d.adaptation.auto_policy import (
    AUTO,
    METHODS,
    MethodChoice,
    choose_by_table,
    measured_windows,
    resolve_method,
    support_windows,
)
from medfm3d.adaptation.box_adapter import BoxAdapter, SpatialAdapter
from medfm3d.adaptation.boxed_background import KeepBackgroundInBoxd
from medfm3d.adaptation.check import check_adapter, check_insertion
from medfm3d.adaptation.decoder_tuning import DecoderTuning
from medfm3d.adaptation.deformed_window import RandDeformedWindowd
from medfm3d.adaptation.domain_gap import FeatureStatistics, frechet_distance
from medfm3d.adaptation.ema import EMAWeights
from medfm3d.adaptation.encoder_match import encoder_remarks
from medfm3d.adaptation.encoder_tuning import EncoderTuning
from medfm3d.adaptation.full_tuning import FullTuning
from medfm3d.adaptation.insertion import insert_into, inserted_parameters
from medfm3d.adaptation.linear_probe import LinearProbe
from medfm3d.adaptation.muon import MuonAdamW
from medfm3d.adaptation.noise_texture import RandCTNoised
from medfm3d.adaptation.organ_channels import ChannelsToLabelIds, LabelIdsToChannels
from medfm3d.adaptation.plan import AdaptationPlan, plan_adaptation, read_support
from medfm3d.adaptation.prior_loss import PriorLoss, with_training_priors
from medfm3d.adaptation.registry import ADAPTERS, create_adapter
from medfm3d.adaptation.statistics_file import read_statistics, statistics_file, write_statistics
from medfm3d.adaptation.support import choose_support
from medfm3d.adaptation.support_dataset import SupportDataset
from medfm3d.adaptation.tissue_contrast import RandTissueContrastd
from medfm3d.adaptation.torchio_transform import RandTorchIOd

__all__ = [
    "ADAPTERS",
    "AUTO",
    "DEFAULT_GROUPS",
    "GROUPS",
    "METHODS",
    "AdaptableNetwork",
    "AdaptationPlan",
    "Adapter",
    "BoxAdapter",
    "ChannelsToLabelIds",
    "DecoderTuning",
    "EMAWeights",
    "EncoderTuning",
    "FeatureClassifier",
    "FeatureStatistics",
    "FullTuning",
    "KeepBackgroundInBoxd",
    "LabelIdsToChannels",
    "LinearProbe",
    "MethodChoice",
    "MuonAdamW",
    "PriorLoss",
    "RandCTNoised",
    "RandDeformedWindowd",
    "RandTissueContrastd",
    "RandTorchIOd",
    "SpatialAdapter",
    "SupportDataset",
    "TrainingDefaults",
    "check_adapter",
    "check_insertion",
    "choose_by_table",
    "choose_support",
    "create_adapter",
    "encoder_remarks",
    "equal_epochs",
    "frechet_distance",
    "insert_into",
    "inserted_parameters",
    "measured_windows",
    "plan_adaptation",
    "read_statistics",
    "read_support",
    "resolve_method",
    "statistics_file",
    "support_windows",
    "training_augmentation",
    "with_training_priors",
    "write_statistics",
]
