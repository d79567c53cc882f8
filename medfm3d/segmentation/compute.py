"""Where to compute, and in which floating-point type."""

import torch


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in on a device.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 where the device computes it natively (CUDA from compute
            capability 8.0, CPUs with AVX512-BF16 or AMX), else float32. In software bfloat16 is slower than float32.
        device: where the network runs.

    Raises:
        ValueError: for any other name.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"unknown precision {precision!r}: choose auto, float32 or bfloat16")
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if native else torch.float32


def autocast_to(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a network on a device computes, of a precision as of `resolve_precision`.

    A file for other runtimes computes in float32: it goes to other machines, and ONNX Runtime knows no bfloat16
    convolution.

    Raises:
        ValueError: if the precision is unknown.
    """
    exporting = torch.jit.is_tracing() or torch.compiler.is_exporting()
    dtype = torch.float32 if exporting else resolve_precision(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


def resolve_device(device: str) -> torch.device:
    """Return the device of a name: "cpu", "cuda", "cuda:N", or "auto": a GPU where there is one, else the CPU.

    Raises:
        ValueError: if the name is none of these, or names a GPU that this machine does not have.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: choose auto, cpu, cuda or cuda:N") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {device!r}: choose auto, cpu, cuda or cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device} is not there: this machine has {torch.cuda.device_count()} CUDA devices")
    return resolved
