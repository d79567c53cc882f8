"""Encoder weights on disk: safetensors whose header says which encoder they belong to and where they come from."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from medfm3d.encoders.encoder import Encoder
from medfm3d.encoders.registry import create_encoder


class WeightsError(ValueError):
    """A weights file that cannot be read or does not fit: the message names the file, the fault and the remedy."""


def save_encoder(
    encoder: Encoder,
    path: str | Path,
    *,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write an encoder's weights, with a JSON header, to a safetensors file; an existing file is replaced at once.

    Args:
        encoder: the encoder.
        path: file to write.
        name: its name in `ENCODERS`.
        arguments: constructor arguments that differ from those of the named size.
        provenance: how the weights came to be (data, command, seed, steps, figures); any JSON value.
        dtype: type to store floating-point weights in; `torch.float16` halves the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: value.detach().cpu().to(dtype).contiguous() if value.is_floating_point() else value.detach().cpu()
        for key, value in encoder.state_dict().items()
    }
    header = {
        "format": "medfm3d-encoder-1",
        "encoder": name,
        "arguments": json.dumps(dict(arguments or {})),
        "provenance": json.dumps(dict(provenance or {})),
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=header)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the header of a weights file: `encoder`, `arguments`, `provenance`.

    Raises:
        WeightsError: if the file is missing, is not safetensors, or has no header of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; pretrain an encoder or name another file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error}); write it with save_encoder") from error
    if metadata.get("format") != "medfm3d-encoder-1":
        raise WeightsError(f"{path}: has no medfm3d-encoder-1 header; write it with save_encoder")
    return {
        "encoder": metadata["encoder"],
        "arguments": json.loads(metadata["arguments"]),
        "provenance": json.loads(metadata["provenance"]),
    }


def load_encoder(path: str | Path) -> Encoder:
    """Construct the encoder that a weights file names, in evaluation mode, with its weights in float32.

    Raises:
        WeightsError: as `read_header`, and if any tensor is missing, unexpected or of another shape.
    """
    header = read_header(path)
    encoder = create_encoder(header["encoder"], **header["arguments"])
    load_encoder_weights(encoder, path)
    return encoder.eval()


def load_encoder_weights(encoder: Encoder, path: str | Path) -> None:
    """Load a weights file into an existing encoder; every tensor must be there and fit.

    Raises:
        WeightsError: as `load_encoder`.
    """
    read_header(path)
    with safe_open(path, framework="pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    wanted = encoder.state_dict()
    missing = sorted(wanted.keys() - found.keys())
    unexpected = sorted(found.keys() - wanted.keys())
    reshaped = sorted(key for key in wanted.keys() & found.keys() if wanted[key].shape != found[key].shape)
    if missing or unexpected or reshaped:
        raise WeightsError(
            f"{path}: does not fit this encoder; missing {missing[:5]}, unexpected {unexpected[:5]}, of another shape "
            f"{reshaped[:5]} (first five of each); construct the encoder that the file's header names"
        )
    encoder.load_state_dict({key: value.to(wanted[key].dtype) for key, value in found.items()})
