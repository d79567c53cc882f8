"""The sliding windows that are compared, each as a function from a volume to labels, and networks for them."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from monai.inferers import SlidingWindowInferer, SlidingWindowInfererAdapt
from torch import Tensor, nn

from medfm3d.inference import StreamingInferer

ENGINES = ("monai", "monai-adapt", "nnunet", "medfm3d", "medfm3d-fp16")  # in this order: ratios are over MONAI


def engine(name: str, network: nn.Module, window: int, overlap: float) -> Callable[[Tensor], Tensor]:
    """Return a function from a volume (1, 1, D, H, W) to labels (D, H, W).

    Raises:
        ValueError: for an unknown name.
    """
    settings = {"roi_size": (window,) * 3, "sw_batch_size": 1, "overlap": overlap, "mode": "gaussian"}
    if name in ("medfm3d", "medfm3d-fp16"):
        dtype = torch.float16 if name.endswith("fp16") else torch.float32
        streaming = StreamingInferer(**settings, accumulate=dtype)
        return lambda volume: streaming(volume, network)[0, 0]
    if name in ("monai", "monai-adapt"):
        inferer = (SlidingWindowInferer if name == "monai" else SlidingWindowInfererAdapt)(**settings)
        return lambda volume: inferer(volume, network).argmax(dim=1)[0]
    if name == "nnunet":
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(
            tile_step_size=1 - overlap, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.network = network
        predictor.configuration_manager = SimpleNamespace(patch_size=[window] * 3)
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=network.classes)
        predictor.allowed_mirroring_axes = None
        return lambda volume: predictor.predict_sliding_window_return_logits(volume[0]).float().argmax(dim=0)
    raise ValueError(f"unknown engine {name!r}: choose from {', '.join(ENGINES)}")


class Counted(nn.Module):
    """A network that counts the windows it is given.

    Args:
        network: from (B, 1, d, h, w) to scores (B, classes, d, h, w), at any size that is a multiple of 16.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.windows = network, 0
        self.classes = int(network(torch.zeros(1, 1, 16, 16, 16)).shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's scores."""
        self.windows += len(x)
        return self.network(x)


def build_network(name: str, classes: int) -> nn.Module:
    """Return "light", 2 convolutions at stride 4 and a projection to the classes, or "segmenter", medfm3d's."""
    if name == "segmenter":
        from medfm3d.segmentation import Segmenter

        return Segmenter([f"organ {number}" for number in range(1, classes)], "vit_tiny", "decoder").eval()
    return nn.Sequential(
        nn.Conv3d(1, 16, 4, stride=4),
        nn.ReLU(),
        nn.Conv3d(16, 16, 3, padding=1),
        nn.Upsample(scale_factor=4, mode="trilinear"),
        nn.Conv3d(16, classes, 1),
    )
