"""Weights on disk: safetensors whose header says what they belong to and where they come from."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from medfm3d.encoders.encoder import Encoder
from medfm3d.encoders.registry import ENCODERS, create_encoder

FORMAT = "medfm3d-weights-1"


class WeightsError(ValueError):
    """A weights file that cannot be read or does not fit: the message names the file, the fault and the remedy."""


def save_weights(
    module: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    architecture: str,
    arguments: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a module's weights, with a JSON header, to a safetensors file; an existing file is replaced at once.

    Args:
        module: the module, or its state dict.
        path: file to write.
        architecture: what the weights belong to, such as the name of an encoder.
        arguments: constructor arguments that differ from those the name implies.
        provenance: how the weights came to be (data, command, seed, steps, figures); any JSON value.
        dtype: type to store floating-point weights in; `torch.float16` halves the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: value.detach().cpu().to(dtype).contiguous() if value.is_floating_point() else value.detach().cpu()
        for key, value in (module.state_dict() if isinstance(module, nn.Module) else module).items()
    }
    header = {
        "format": FORMAT,
        "architecture": architecture,
        "arguments": json.dumps(dict(arguments or {})),
        "provenance": json.dumps(dict(provenance or {})),
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=header)
        Path(temporary).chmod(0o644)  # mkstemp's files are for their owner alone
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the header of a weights file: `architecture`, `arguments`, `provenance`.

    Raises:
        WeightsError: if the file is missing, is not safetensors, or has no header of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; pretrain first, or name another file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error}); write it with medfm3d") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: has no {FORMAT} header; write it with medfm3d")
    return {
        "architecture": metadata["architecture"],
        "arguments": json.loads(metadata["arguments"]),
        "provenance": json.loads(metadata["provenance"]),
    }


def load_weights(module: nn.Module, path: str | Path, *, names: Mapping[str, str] | None = None) -> None:
    """Load a weights file into a module; every tensor must be there and fit. Weights keep the module's types.

    Args:
        module: the module.
        path: the file.
        names: name in the module of each tensor in the file, where they differ because something was inserted into the
            module; tensors of the module that are not among them stay as they are.

    Raises:
        WeightsError: as `read_header`, and if any tensor is missing, unexpected or of another shape.
    """
    read_header(path)
    with safe_open(path, framework="pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    state = module.state_dict()
    names = {name: name for name in state} if names is None else names
    wanted = {name: state[place] for name, place in names.items()}
    missing = sorted(wanted.keys() - found.keys())
    unexpected = sorted(found.keys() - wanted.keys())
    reshaped = sorted(key for key in wanted.keys() & found.keys() if wanted[key].shape != found[key].shape)
    if missing or unexpected or reshaped:
        raise WeightsError(
            f"{path}: does not fit this {type(module).__name__}; missing {missing[:5]}, unexpected {unexpected[:5]}, "
            f"of another shape {reshaped[:5]} (first five of each); construct what the file's header names"
        )
    module.load_state_dict(state | {names[key]: value.to(wanted[key].dtype) for key, value in found.items()})


def start_from(module: nn.Module, path: str | Path | None) -> nn.Module:
    """Load a weights file into a module, as `load_weights`, and return the module; None keeps its fresh weights."""
    if path is not None:
        load_weights(module, path)
    return module


def save_encoder(encoder: Encoder | Mapping[str, Tensor], path: str | Path, *, name: str, **header: Any) -> Path:
    """Write an encoder's weights, or its state dict, under its name in `ENCODERS`; `header` as of `save_weights`."""
    return save_weights(encoder, path, architecture=name, **header)


def load_encoder(path: str | Path) -> Encoder:
    """Construct the encoder that a weights file names, in evaluation mode, with its weights in float32.

    Raises:
        WeightsError: as `load_weights`, and if the file's encoder is not one of `ENCODERS`.
    """
    header = read_header(path)
    if header["architecture"] not in ENCODERS:
        raise WeightsError(f"{path}: holds {header['architecture']!r}, not an encoder of {', '.join(ENCODERS)}")
    encoder = create_encoder(header["architecture"], **header["arguments"])
    load_weights(encoder, path)
    return encoder.eval()


def file_sha256(path: str | Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(2**22):  # published files have gigabytes
            digest.update(block)
    return digest.hexdigest()
