"""Pretraining: an encoder learns from volumes without labels."""

from medfm3d.pretraining.checkpoint_file import AtomicCheckpointIO
from medfm3d.pretraining.cohort_volumes import PreparedVolumes, PretrainingCohort, prepared_entries
from medfm3d.pretraining.dense_inpainting import DenseInpainting, ExportDecoder
from medfm3d.pretraining.export_encoder import ExportEncoder
from medfm3d.pretraining.image_synthesis import synthesise_image
from medfm3d.pretraining.label_maps import LabelMapCohort
from medfm3d.pretraining.mae_module import MAEModule
from medfm3d.pretraining.masked_autoencoder import MaskedAutoencoder, patch_scale
from medfm3d.pretraining.masked_methods import create_masked_network
from medfm3d.pretraining.masked_network import MaskedNetwork, MaskedPrediction
from medfm3d.pretraining.masking import random_mask, seeded_generator
from medfm3d.pretraining.pretraining_data import PretrainingData
from medfm3d.pretraining.random_shapes import random_shapes
from medfm3d.pretraining.randomised_synthesis import ExportEncoderAndDecoder, RandomisedSynthesis
from medfm3d.pretraining.reconstruction_picture import ReconstructionPicture, draw_reconstruction, save_figure
from medfm3d.pretraining.resuming import find_checkpoint, load_network
from medfm3d.pretraining.scaled_blocks import compile_blocks, scale_network, shard_blocks, whole_state
from medfm3d.pretraining.schedule import decay_groups, warmup_cosine
from medfm3d.pretraining.sharding import shard_cohort
from medfm3d.pretraining.simmim import SimMIM
from medfm3d.pretraining.step_loader import StepLoader
from medfm3d.pretraining.step_seed import StepSeed
from medfm3d.pretraining.synthesis_data import SynthesisData, SynthesisDataset
from medfm3d.pretraining.throughput import Throughput
from medfm3d.pretraining.training_flops import TrainingFlops
from medfm3d.pretraining.voxel_contrast import voxel_contrastive_loss
from medfm3d.pretraining.windows import StepSampler, WindowDataset, pretraining_augmentation, random_window

__all__ = [
    "AtomicCheckpointIO",
    "DenseInpainting",
    "ExportDecoder",
    "ExportEncoder",
    "ExportEncoderAndDecoder",
    "LabelMapCohort",
    "MAEModule",
    "MaskedAutoencoder",
    "MaskedNetwork",
    "MaskedPrediction",
    "PreparedVolumes",
    "PretrainingCohort",
    "PretrainingData",
    "RandomisedSynthesis",
    "ReconstructionPicture",
    "SimMIM",
    "StepLoader",
    "StepSampler",
    "StepSeed",
    "SynthesisData",
    "SynthesisDataset",
    "Throughput",
    "TrainingFlops",
    "WindowDataset",
    "compile_blocks",
    "create_masked_network",
    "decay_groups",
    "draw_reconstruction",
    "find_checkpoint",
    "load_network",
    "patch_scale",
    "prepared_entries",
    "pretraining_augmentation",
    "random_mask",
    "random_shapes",
    "random_window",
    "save_figure",
    "scale_network",
    "seeded_generator",
    "shard_blocks",
    "shard_cohort",
    "synthesise_image",
    "voxel_contrastive_loss",
    "warmup_cosine",
    "whole_state",
]
