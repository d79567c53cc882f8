"""A trainer for nnU-Net v2 that builds the vision transformer which a plans file of medfm3d names.

nnU-Net finds it where the environment variable nnUNet_extTrainer names this file's folder. Its own Primus trainers have
fixed sizes with inner norms and without register tokens; schedule and optimiser are theirs.
"""

from dynamic_network_architectures.architectures.primus import Primus
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn


class Medfm3dViTTrainer(AbstractPrimus):
    """nnU-Net's training of Primus (AdamW, warm-up, no deep supervision) for a transformer of any size."""

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """Return a Primus with the arguments that the configuration's architecture has."""
        return Primus(
            num_input_channels,
            num_classes=num_output_channels,
            input_shape=tuple(configuration_manager.patch_size),
            **configuration_manager.network_arch_init_kwargs,
        )
