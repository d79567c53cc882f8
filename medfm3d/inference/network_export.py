"""An adapted bundle's network in one file for runtimes that have neither medfm3d nor MONAI."""

import json
import tempfile
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medfm3d.encoders import file_sha256
from medfm3d.inference.bundle_reader import read_card
from medfm3d.inference.bundle_writer import BundleError
from medfm3d.inference.case_segmenter import WEIGHTS, CaseSegmenter
from medfm3d.inference.onnx_network import ORGANS_KEY, WEIGHTS_KEY, WINDOW_KEY, OnnxNetwork, require_export_packages

TOLERANCE = 1e-3  # of logits
INPUT, OUTPUT = "image", "pred"
DYNAMIC_BATCH = ({0: torch.export.Dim("batch", min=1, max=1024)},)  # of the one input; memory ends sooner


class ExportFormat(str, Enum):
    """What can be written: ONNX, TorchScript (traced), or a program of torch.export."""

    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch-export"


def export_network(
    bundle: str | Path, output: str | Path, format: ExportFormat, *, int8: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Write a bundle's network as one file, after comparing what the file gives with what the bundle gives.

    The file takes windows (B, 1, D, H, W) float32, prepared as the bundle's `inference.json` does, of the plan's size
    and any number B, and gives logits (B, 1 + organs, D, H, W). It computes in float32 whatever the processor. ONNX
    files say in their metadata from which weights they come, the window, and the organs.

    Args:
        bundle: an adapted bundle.
        output: the file; written under another name first.
        format: of the file.
        int8: quantise the weights of linear layers to 8 bits, and their inputs while computing (dynamic quantisation);
            ONNX only. That changes logits by more than rounding: the result says by how much.
        seed: of the windows that are compared.

    Returns:
        `output`, `format`, `int8`, `window`, `organs`, `size_bytes`, `largest_difference` of logits and
        `changed_voxels`, the share of voxels whose label is another.

    Raises:
        BundleError: if the folder is no adapted bundle, a package is missing, or logits differ by more than 0.001 and
            it is not quantised; then there is no file.
        ValueError: if int8 is asked for with another format than ONNX.
    """
    if int8 and format != ExportFormat.ONNX:
        raise ValueError(f"int8 files are written as onnx alone, not as {format.value}")
    output, card, weights = Path(output), read_card(bundle), Path(bundle) / WEIGHTS
    if format == ExportFormat.ONNX:
        require_export_packages("onnx", "onnxscript", "onnxruntime")
    segmenter = CaseSegmenter(bundle, {"datalist": [], "device": "cpu"})
    network, plan = segmenter.network, segmenter.plan
    network.precision = "float32"
    network.requires_grad_(False)
    windows = _windows(network.encoder.in_channels, plan.window, seed)
    told = {
        WEIGHTS_KEY: file_sha256(weights),
        WINDOW_KEY: " ".join(str(side) for side in plan.window),
        ORGANS_KEY: json.dumps(plan.organs),
        "medfm3d_bundle": card["name"],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        partial = Path(folder) / "network.onnx"
        match format:
            case ExportFormat.ONNX:
                _write_onnx(network, windows, partial, told, int8)
                run = OnnxNetwork(partial, weights)
            case ExportFormat.TORCHSCRIPT:
                run = _write_torchscript(network, windows, partial, told)
            case ExportFormat.TORCH_EXPORT:
                run = _write_program(network, windows, partial, told)
        largest, changed = _difference(network, run, windows)
        if largest > TOLERANCE and not int8:
            raise BundleError(
                f"{bundle}: its logits differ by {largest:.2g} as {format.value}, more than {TOLERANCE}; nothing was "
                "written, please report it with the versions that medfm3d info prints"
            )
        partial.replace(output)
    return {
        "output": str(output),
        "format": format.value,
        "int8": int8,
        "window": list(plan.window),
        "organs": plan.organs,
        "size_bytes": output.stat().st_size,
        "largest_difference": largest,
        "changed_voxels": changed,
    }


def _write_onnx(network: nn.Module, windows: Tensor, file: Path, told: dict[str, str], int8: bool) -> None:
    import onnx

    torch.onnx.export(
        network,
        (windows,),
        str(file),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=DYNAMIC_BATCH,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if int8:
        _quantise(file)
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, told)
    onnx.save(model, str(file))


def _quantise(file: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, quantised = file.with_name("prepared.onnx"), file.with_name("quantised.onnx")
    quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
    # Convolutions stay: ONNX Runtime has no quantised convolution of three dimensions.
    quantize_dynamic(
        str(prepared),
        str(quantised),
        op_types_to_quantize=["MatMul", "Gemm"],
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    quantised.replace(file)


def _write_torchscript(
    network: nn.Module, windows: Tensor, file: Path, told: dict[str, str]
) -> Callable[[Tensor], Tensor]:
    traced = torch.jit.trace(network, windows, check_trace=False)
    torch.jit.save(traced, str(file), _extra_files={"medfm3d.json": json.dumps(told)})
    return torch.jit.load(str(file))


def _write_program(network: nn.Module, windows: Tensor, file: Path, told: dict[str, str]) -> Callable[[Tensor], Tensor]:
    program = torch.export.export(network, (windows,), dynamic_shapes=DYNAMIC_BATCH)
    archive = file.with_name("network.pt2")  # it insists on its suffix
    torch.export.save(program, archive, extra_files={"medfm3d.json": json.dumps(told)})
    archive.replace(file)
    with file.open("rb") as opened:
        return torch.export.load(opened).module()


def _windows(channels: int, window: tuple[int, ...], seed: int) -> Tensor:
    """Return two windows as different as scans are: noise, and a smooth shape in front of air."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, channels, *window, generator=generator)
    coarse = torch.randn(1, channels, *(max(2, side // 16) for side in window), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=list(window), mode="trilinear")
    return torch.cat([noise, torch.where(smooth > 0, smooth, smooth.amin())])


@torch.no_grad()
def _difference(network: nn.Module, run: Callable[[Tensor], Tensor], windows: Tensor) -> tuple[float, float]:
    """Return the largest difference of logits, and the share of voxels with another label; for one and two windows."""
    differences, changed = [], []
    for batch in (windows, windows[:1], windows[1:]):
        expected, given = network(batch), run(batch)
        differences.append(float((given - expected).abs().max()))
        changed.append(float((given.argmax(1) != expected.argmax(1)).float().mean()))
    return max(differences), max(changed)
