"""A network compiled by TensorRT, as the bundles of MONAI's zoo do it."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from monai.networks import trt_compile
from torch import nn

from medfm3d.inference.bundle_writer import BundleError


def compile_by_tensorrt(network: nn.Module, plan_path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a network whose first window is compiled into a TensorRT engine, kept beside `plan_path`.

    It is MONAI's `trt_compile`, which without a GPU or TensorRT only logs that it does nothing; here that is an error.

    Args:
        network: on a CUDA device.
        plan_path: file that the engine's name starts with, such as the bundle's `models/model.pt`; when it is newer
            than the engine, the engine is made anew.
        arguments: of MONAI's `TrtCompiler`.

    Raises:
        BundleError: if a package or a GPU is missing.
    """
    missing = [name for name in ("tensorrt", "polygraphy", "onnx", "onnxscript") if find_spec(name) is None]
    if not torch.cuda.is_available():
        missing.append("a CUDA device")
    if missing:
        raise BundleError(
            f"TensorRT needs {', '.join(missing)}, which is not here; install it, or leave inference_trt.json out"
        )
    return trt_compile(network, plan_path, args=dict(arguments))
