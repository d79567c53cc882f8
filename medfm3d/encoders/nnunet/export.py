"""A pretrained encoder as a checkpoint that nnU-Net v2 fine-tunes."""

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medfm3d.encoders.encoder import Encoder
from medfm3d.encoders.input_intensity import InputIntensity, RescaledEncoder
from medfm3d.encoders.nnunet.plans import VIT_TRAINER, plan_of, plans_for
from medfm3d.encoders.public_weights.axis_order import permute_axes
from medfm3d.encoders.public_weights.fitting import fit_tensors
from medfm3d.encoders.public_weights.store import PretrainedEncoder
from medfm3d.encoders.vit import ViTEncoder
from medfm3d.encoders.weights import WeightsError, load_encoder
from medfm3d.volumes import write_json
from medfm3d.volumes.intensity import CT_CENTRE_HU, CT_SPREAD_HU
from medfm3d.volumes.whole_file import whole_file

TRAINERS = Path(__file__).with_name("trainers")
CONFIGURATION = "3d_fullres"


@dataclass(frozen=True)
class NnUNetExport:
    """What was written, and what to do with it.

    Attributes:
        path: the checkpoint.
        plans: the plans file.
        trainer: class of nnU-Net's trainer.
        encoder_names: names of the encoder's tensors in nnU-Net's network.
        commands: shell commands that train.
    """

    path: str
    plans: str
    trainer: str
    encoder_names: list[str]
    commands: list[str]

    @property
    def tensors(self) -> int:
        """Number of the encoder's tensors."""
        return len(self.encoder_names)


def export_for_nnunet(
    pretrained: PretrainedEncoder,
    plans_file: str | Path,
    output: str | Path,
    *,
    configuration: str = CONFIGURATION,
    seed: int = 0,
) -> NnUNetExport:
    """Write an encoder as a checkpoint for `nnUNetv2_train -pretrained_weights`, and plans that build its network.

    nnU-Net wants all tensors of a network but the last layers, so the checkpoint holds its network whole: the encoder
    pretrained, everything behind it as nnU-Net starts it. Axes are turned to nnU-Net's order, learnt positions resized
    to its patch, weights that meet the input repeated over its channels. Of a CT dataset with one channel, the change
    from nnU-Net's scale of intensities to that of the encoder's training goes into the first layer.

    Args:
        pretrained: the encoder, from `find_encoder`.
        plans_file: nnU-Net's plans of a dataset, in the folder of its dataset.json.
        output: checkpoint to write; the plans are written beside `plans_file`.
        configuration: of the plans, a 3D one; it becomes 3d_fullres of the new ones.
        seed: of what is not pretrained.

    Raises:
        WeightsError: if nnU-Net is not installed, a file is missing or does not fit, or nnU-Net has no such network.
    """
    if importlib.util.find_spec("nnunetv2") is None:
        raise WeightsError('nnU-Net is not installed; run pip install "medfm3d[nnunet]"')
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans_file, output = Path(plans_file), Path(output)
    plans, dataset = _read_json(plans_file), _read_json(plans_file.with_name("dataset.json"))
    if configuration not in plans.get("configurations", {}):
        raise WeightsError(f"{plans_file}: has no configuration {configuration!r}; name one of its 3D ones")
    encoder = load_encoder(pretrained.path)
    intensity = encoder.intensity if isinstance(encoder, RescaledEncoder) else InputIntensity()
    encoder = encoder.encoder if isinstance(encoder, RescaledEncoder) else encoder
    planned = plan_of(encoder)
    resolved = PlansManager(plans).get_configuration(configuration).configuration
    if len(resolved["patch_size"]) != 3:
        raise WeightsError(f"{plans_file}: configuration {configuration!r} is not 3D; name one that is")
    name = f"{plans['plans_name']}_{pretrained.path.stem}"
    changed = plans_for(plans, resolved, name, planned)
    manager = PlansManager(changed)
    built = manager.get_configuration(CONFIGURATION)
    torch.manual_seed(seed)
    network = _trainer(planned.trainer).build_network_architecture(
        manager,
        built,
        determine_num_input_channels(manager, built, dataset),
        manager.get_label_manager(dataset).num_segmentation_heads,
        False,
    )
    tensors = _plain_tensors(encoder, built.patch_size, changed["transpose_forward"])
    schemes = built.normalization_schemes
    if schemes == ["CTNormalization"]:
        statistics = changed["foreground_intensity_properties_per_channel"]["0"]
        _fold_intensity(tensors, intensity, statistics["mean"], statistics["std"])
    loaded = _fit(network, tensors, pretrained.path)
    network.load_state_dict(network.state_dict() | loaded)
    with whole_file(output) as whole:
        torch.save({"network_weights": network.state_dict(), "medfm3d_provenance": dict(pretrained.provenance)}, whole)
    plans_path = write_json(changed, plans_file.with_name(f"{name}.json"))
    commands = [
        f"nnUNetv2_train {changed['dataset_name']} {CONFIGURATION} 0 -p {name} -tr {planned.trainer} "
        f"-pretrained_weights {output}"
    ]
    if planned.trainer == VIT_TRAINER:
        commands.insert(0, f"export nnUNet_extTrainer={TRAINERS}  # for nnUNetv2_predict too")
    return NnUNetExport(str(output), str(plans_path), planned.trainer, sorted(loaded), commands)


def _trainer(name: str) -> Any:
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    if name == VIT_TRAINER:
        return recursive_find_python_class(str(TRAINERS), name, None)
    return recursive_find_trainer_class_by_name(name)


def _plain_tensors(encoder: Encoder, patch: list[int], transpose_forward: list[int]) -> dict[str, Tensor]:
    """Return the encoder's tensors for nnU-Net's order of axes: (z, y, x), as SimpleITK reads, turned by the plans."""
    order = [2 - axis for axis in transpose_forward]
    state = {key.removeprefix("network."): value.clone() for key, value in encoder.state_dict().items()}
    if not isinstance(encoder, ViTEncoder):
        return permute_axes(state, order, heads=None, grid=None)
    grid = None
    if encoder.eva.pos_embed is not None:
        sides = [0, 0, 0]
        for place, axis in enumerate(order):
            sides[axis] = int(patch[place])
        grid = encoder.unit_grid(sides)
        registers = encoder.eva.num_prefix_tokens
        positions = permute_axes(
            {"pos_embed": encoder._absolute_positions(grid).detach()}, order, heads=None, grid=grid
        )["pos_embed"]
        state.pop("eva.pos_embed")
        turned = permute_axes(state, order, heads=encoder.eva.blocks[0].attn.num_heads, grid=None)
        own = encoder.eva.pos_embed.detach()[:, :registers]
        return turned | {"eva.pos_embed": torch.cat([own, positions], dim=1)}
    return permute_axes(state, order, heads=encoder.eva.blocks[0].attn.num_heads, grid=None)


def _fold_intensity(tensors: dict[str, Tensor], intensity: InputIntensity, mean_hu: float, deviation_hu: float) -> None:
    """Put the change from nnU-Net's CT scale, (HU - mean) / deviation, to the encoder's into its first layer, in place.

    Where the encoder pads with zeros, a rim of one voxel sees another constant than in training.
    """
    scale = intensity.scale * deviation_hu / CT_SPREAD_HU
    shift = intensity.scale * (mean_hu - CT_CENTRE_HU) / CT_SPREAD_HU + intensity.shift
    weight, bias = next((k, k.removesuffix("weight") + "bias") for k, v in tensors.items() if v.ndim == 5)
    tensors[bias] = tensors[bias] + shift * tensors[weight].sum(dim=(1, 2, 3, 4))
    tensors[weight] = tensors[weight] * scale


def _fit(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the encoder's tensors by their names in nnU-Net's network, or raise WeightsError if any has no place."""
    if hasattr(network, "encoder"):
        # nnU-Net's blocks know each layer by two names, ours by one; its decoder knows the encoder too.
        part, prefixes = network.encoder, ("encoder.", "decoder.encoder.")
        known = {name: tensors[_one_name(name)] for name in part.state_dict() if _one_name(name) in tensors}
    else:
        part, prefixes = nn.Module(), ("",)
        part.eva, part.down_projection = network.eva, network.down_projection
        part.register_parameter("register_tokens", network.register_tokens)
        known = dict(tensors)
    first = [name for name, tensor in known.items() if tensor.ndim == 5 and tensor.shape[1] == 1]
    fit = fit_tensors(part, known, first)
    if fit.share < 1 or fit.unexpected:
        raise WeightsError(f"{path}: does not fit nnU-Net's network; {fit.summary()}")
    there = network.state_dict()
    return {
        prefix + name: tensor for prefix in prefixes for name, tensor in fit.loaded.items() if prefix + name in there
    }


def _one_name(name: str) -> str:
    name = re.sub(r"\.conv\.(weight|bias)$", r".all_modules.0.\1", name)
    return re.sub(r"\.norm\.(weight|bias)$", r".all_modules.1.\1", name)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; let nnU-Net plan and preprocess the dataset first")
    return json.loads(path.read_text(encoding="utf-8"))
