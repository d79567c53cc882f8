"""The adaptation plan that checkpoints of nnssl carry: which network they are of, and where its parts lie."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from medfm3d.encoders.weights import WeightsError


@dataclass(frozen=True)
class NnsslPlan:
    """What an import needs of such a plan.

    Source: the fine-tuning guide of nnU-Net and the adaptation plans beside the weights of OpenMind (Wald et al. 2025).

    Attributes:
        architecture: nnssl's name of the network.
        encoder: prefix of the encoder's tensors.
        stem: prefix of the tensors that meet the input.
        window: sides, in voxels, of the windows it was trained on; None if the plan does not say.
    """

    architecture: str
    encoder: str
    stem: str
    window: tuple[int, int, int] | None

    @classmethod
    def of(cls, content: Mapping[str, Any], key: str) -> "NnsslPlan | None":
        """Return the plan in a checkpoint, or None if there is none under that key.

        Raises:
            WeightsError: naming what is absent from a plan that is there.
        """
        if key not in content:
            return None
        plan = content[key]
        try:
            # Some methods pretrain on smaller windows than their configuration says, and state them apart.
            configurations = plan.get("pretrain_plan", {}).get("configurations", {})
            stated = next((c["patch_size"] for c in configurations.values() if "patch_size" in c), None)
            window = plan.get("pretrain_patch_size", stated)
            return cls(
                plan["architecture_plans"]["arch_class_name"],
                plan["key_to_encoder"],
                plan["key_to_stem"],
                None if window is None else tuple(int(side) for side in window),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"its {key} lacks {error}; it was written by another version of nnssl") from error

    def canonical(self, tensors: Mapping[str, Tensor], encoder: str, stem: str) -> dict[str, Tensor]:
        """Return the tensors with the plan's prefixes of encoder and stem replaced by others."""
        prefixes = {self.encoder: encoder, self.stem: stem}
        return {_replaced(name, prefixes): tensor for name, tensor in tensors.items()}


def _replaced(name: str, prefixes: Mapping[str, str]) -> str:
    for old in sorted(prefixes, key=len, reverse=True):
        if name == old or name.startswith(f"{old}."):
            return prefixes[old] + name.removeprefix(old)
    return name
