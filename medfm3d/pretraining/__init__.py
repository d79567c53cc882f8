"""Pretraining: an encoder learns from volumes without labels."""

from medfm3d.pretraining.cohort_volumes import PreparedVolumes, PretrainingCohort
from medfm3d.pretraining.dense_inpainting import DenseInpainting, ExportDecoder
from medfm3d.pretraining.export_encoder import ExportEncoder
from medfm3d.pretraining.image_synthesis import synthesise_image
from medfm3d.pretraining.label_maps import LabelMapCohort
from medfm3d.pretraining.mae_module import MAEModule
from medfm3d.pretraining.masked_autoencoder import MaskedAutoencoder, MaskedPrediction, patch_scale
from medfm3d.pretraining.masking import random_mask, seeded_generator
from medfm3d.pretraining.pretraining_data import PretrainingData
from medfm3d.pretraining.random_shapes import random_shapes
from medfm3d.pretraining.randomised_synthesis import ExportEncoderAndDecoder, RandomisedSynthesis
from medfm3d.pretraining.reconstruction_picture import ReconstructionPicture, draw_reconstruction, save_figure
from medfm3d.pretraining.resuming import find_checkpoint, load_network
from medfm3d.pretraining.schedule import decay_groups, warmup_cosine
from medfm3d.pretraining.synthesis_data import SynthesisData, SynthesisDataset
from medfm3d.pretraining.voxel_contrast import voxel_contrastive_loss
from medfm3d.pretraining.windows import StepSampler, WindowDataset, pretraining_augmentation, random_window

__all__ = [
    "DenseInpainting",
    "ExportDecoder",
    "ExportEncoder",
    "ExportEncoderAndDecoder",
    "LabelMapCohort",
    "MAEModule",
    "MaskedAutoencoder",
    "MaskedPrediction",
    "PreparedVolumes",
    "PretrainingCohort",
    "PretrainingData",
    "RandomisedSynthesis",
    "ReconstructionPicture",
    "StepSampler",
    "SynthesisData",
    "SynthesisDataset",
    "WindowDataset",
    "decay_groups",
    "draw_reconstruction",
    "find_checkpoint",
    "load_network",
    "patch_scale",
    "pretraining_augmentation",
    "random_mask",
    "random_shapes",
    "random_window",
    "save_figure",
    "seeded_generator",
    "synthesise_image",
    "voxel_contrastive_loss",
    "warmup_cosine",
]
