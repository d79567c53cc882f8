"""Reading other people's checkpoints without running their code."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medfm3d.encoders.weights import WeightsError

# Training logs in checkpoints of nnU-Net and its kin hold NumPy numbers: plain data, which PyTorch's restricted reader
# takes once it is told so.
_SCALARS = [np.dtype, *(type(np.dtype(code)) for code in ("f8", "f4", "f2", "i8", "i4", "bool"))]
_SCALAR = np.float64(0).__reduce__()[0]
_SCALARS += [(_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]  # NumPy 1 and 2 call it so


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Return what a file holds: a .safetensors file's tensors, or the dictionary that `torch.save` wrote.

    Files of `torch.save` are pickles, and a pickle is a program. They are read with `weights_only=True`, which admits
    tensors, numbers, text and containers of these, and never in any other way.

    Raises:
        WeightsError: if there is no such file, it is damaged, holds other Python objects, or is no dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; name a checkpoint that you downloaded")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise WeightsError(f"{path}: not a readable safetensors file ({error}); download it again") from error
    try:
        with torch.serialization.safe_globals(_SCALARS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("WeightsUnpickler error:")[-1].split("\n\nCheck")[0].strip()
        if "Unsupported global" not in reason and "Unsupported class" not in reason:
            raise WeightsError(f"{path}: not a checkpoint of torch.save ({reason[:200]}); download it again") from error
        raise WeightsError(
            f"{path}: holds Python objects beside tensors and numbers, which run code when they are read, so it was "
            f"not read ({reason[:200]}). Ask its authors for a safetensors file; or, on a machine where nothing can "
            "be harmed, load it there and save the dictionary of its tensors alone"
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable checkpoint ({error}); download it again") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a dictionary of tensors; name another file")
    return content


def tensors_of(content: Mapping[str, Any], containers: Sequence[str], path: str | Path) -> dict[str, Tensor]:
    """Return the tensors by name: what lies under the first of these keys, or the dictionary itself if it holds them.

    Raises:
        WeightsError: naming the file's keys, if there are no tensors in either place.
    """
    for place in (*(content[key] for key in containers if key in content), content):
        if isinstance(place, Mapping) and place and all(isinstance(value, Tensor) for value in place.values()):
            return dict(place)
    raise WeightsError(
        f"{path}: no tensors under {', '.join(containers)} or at the top; it has the keys "
        f"{', '.join(map(str, list(content)[:10]))}. Was it meant for another entry of the catalogue?"
    )
