"""An exported network in a segmenter's place: windows to logits through ONNX Runtime."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from medfm3d.encoders import file_sha256
from medfm3d.inference.bundle_writer import BundleError
from medfm3d.volumes import plain_tensor

# Names in the file's own metadata.
WEIGHTS_KEY, WINDOW_KEY, ORGANS_KEY = "medfm3d_weights_sha256", "medfm3d_window", "medfm3d_organs"


class OnnxNetwork(nn.Module):
    """Window to logits by a file that `medfm3d export` made; takes the segmenter's place in `inference.json`.

    Args:
        file: the ONNX file.
        weights: the bundle's `models/model.pt`. A file that was made from others would outline something else, or what
            the bundle outlined before it was trained again, and is refused.
        device: where to compute, CPU or a CUDA device that onnxruntime-gpu serves.

    Raises:
        BundleError: if ONNX Runtime is missing or has no provider for the device, or the file is not there, damaged,
            not of `medfm3d export`, or of other weights.
    """

    def __init__(self, file: str | Path, weights: str | Path, device: torch.device | str = "cpu") -> None:
        super().__init__()
        require_export_packages("onnxruntime")
        import onnxruntime

        self.file, device = Path(file), torch.device(device)
        if not self.file.is_file():
            raise BundleError(f"{file}: no such file; make it by medfm3d export --format onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; its warnings speak of passes that found nothing to do
        provider = _provider(device, onnxruntime.get_available_providers())
        try:
            self._session = onnxruntime.InferenceSession(str(self.file), options, providers=[provider])
        except Exception as error:  # its exceptions share no base class but this one
            reason = " ".join(str(error).split())[:200]
            raise BundleError(f"{file}: ONNX Runtime cannot load it ({reason}); export the bundle again") from error
        told = self._session.get_modelmeta().custom_metadata_map
        if WEIGHTS_KEY not in told:
            raise BundleError(f"{file}: does not say which weights it was made from; make it by medfm3d export")
        if told[WEIGHTS_KEY] != file_sha256(weights):
            raise BundleError(f"{file}: was made from other weights than {weights}; export the bundle again")
        self.window = tuple(int(side) for side in told[WINDOW_KEY].split())
        (self._input,) = (entry.name for entry in self._session.get_inputs())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, 1 + organs, D, H, W) float32, of windows (B, C, D, H, W) of the exported size.

        Raises:
            ValueError: if a window has another size.
        """
        x = plain_tensor(x)
        if tuple(x.shape[2:]) != self.window:
            raise ValueError(
                f"{self.file}: takes windows of {_sides(self.window)} voxels, got {_sides(x.shape[2:])}; leave out "
                "what needs others, or run the bundle without the exported file"
            )
        (logits,) = self._session.run(None, {self._input: x.float().cpu().contiguous().numpy()})
        return torch.from_numpy(logits).to(x.device)


def require_export_packages(*names: str) -> None:
    """Raise BundleError unless packages of the extra `export` are installed."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise BundleError(f"{', '.join(missing)} is not installed; run: pip install 'medfm3d[export]'")


def _provider(device: torch.device, available: Sequence[str]) -> str | tuple[str, dict[str, int]]:
    if device.type == "cpu":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" not in available:
        raise BundleError("this ONNX Runtime computes on the CPU alone; install onnxruntime-gpu, or use --device cpu")
    return "CUDAExecutionProvider", {"device_id": device.index or 0}


def _sides(window: Sequence[int]) -> str:
    return " x ".join(str(side) for side in window)
