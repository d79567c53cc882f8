"""Plans of nnU-Net whose network is the one that an encoder came from."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medfm3d.encoders.encoder import Encoder
from medfm3d.encoders.residual_encoder import ResEncEncoder
from medfm3d.encoders.vit import ViTEncoder
from medfm3d.encoders.weights import WeightsError

RESENC_TRAINER = "nnUNetTrainer"
VIT_TRAINER = "Medfm3dViTTrainer"
# nnU-Net's own trainers of Primus, by token length, depth and heads, all with inner norms and no register tokens.
PRIMUS_TRAINERS = {
    (396, 12, 6): "nnUNet_Primus_S_Trainer",
    (792, 12, 12): "nnUNet_Primus_B_Trainer",
    (864, 16, 12): "nnUNet_Primus_M_Trainer",
    (1056, 24, 16): "nnUNet_Primus_L_Trainer",
}


@dataclass(frozen=True)
class EncoderPlan:
    """What nnU-Net must build around an encoder.

    Attributes:
        trainer: class of nnU-Net's trainer.
        architecture: of the plans file.
        multiple: voxels of which the sides of the patch must be multiples.
    """

    trainer: str
    architecture: Mapping[str, Any]
    multiple: int


def plan_of(encoder: Encoder) -> EncoderPlan:
    """Return what nnU-Net must build around an encoder.

    Raises:
        WeightsError: if nnU-Net has no network with such an encoder.
    """
    if isinstance(encoder, ResEncEncoder):
        return EncoderPlan(RESENC_TRAINER, _residual_unet(encoder), max(encoder.strides))
    if isinstance(encoder, ViTEncoder):
        block = encoder.eva.blocks[0]
        arguments = {
            "embed_dim": encoder.embed_dim,
            "patch_embed_size": list(encoder.patch_size),
            "eva_depth": len(encoder.eva.blocks),
            "eva_numheads": block.attn.num_heads,
            "num_register_tokens": encoder.eva.num_prefix_tokens,
            "use_abs_pos_embed": encoder.eva.pos_embed is not None,
            "init_values": None if block.gamma_1 is None else 0.1,
            "scale_attn_inner": any(name.startswith("attn.norm.") for name, _ in block.named_parameters()),
            "drop_path_rate": 0.2,
        }
        size = tuple(arguments[name] for name in ("embed_dim", "eva_depth", "eva_numheads"))
        published = arguments["scale_attn_inner"] and arguments["init_values"] and arguments["use_abs_pos_embed"]
        stock = published and not arguments["num_register_tokens"] and encoder.patch_size == (8, 8, 8)
        architecture = {
            "network_class_name": "dynamic_network_architectures.architectures.primus.Primus",
            "arch_kwargs": arguments,
            "_kw_requires_import": [],
        }
        trainer = PRIMUS_TRAINERS.get(size, VIT_TRAINER) if stock else VIT_TRAINER
        return EncoderPlan(trainer, architecture, encoder.patch_size[0])
    raise WeightsError(
        f"nnU-Net has no network with a {type(encoder).__name__}; export a vit_, primus_ or resenc_ encoder"
    )


def plans_for(plans: Mapping[str, Any], configuration: Mapping[str, Any], name: str, planned: EncoderPlan) -> dict:
    """Return a copy of nnU-Net's plans, by another name, with one configuration that builds an encoder's network.

    Spacing, normalisation and preprocessed data stay those of the plans. The patch grows to the encoder's multiple.
    """
    changed = copy.deepcopy(dict(configuration))
    changed["architecture"] = copy.deepcopy(dict(planned.architecture))
    changed["patch_size"] = [
        math.ceil(side / planned.multiple) * planned.multiple for side in configuration["patch_size"]
    ]
    result = copy.deepcopy(dict(plans))
    result["plans_name"] = name
    return {**result, "configurations": {"3d_fullres": changed}}


def _residual_unet(encoder: ResEncEncoder) -> dict[str, Any]:
    stages = len(encoder.channels)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(encoder.channels),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
            "n_blocks_per_stage": [len(stage.blocks) for stage in encoder.network.stages],
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
