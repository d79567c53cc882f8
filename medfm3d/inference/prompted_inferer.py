"""Prompts through a bundle: read from the request, answered by a session that outlives it."""

import json
import threading
import warnings
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from medfm3d.segmentation.prompts import PromptableSegmenter, PromptSession, read_request, request_text
from medfm3d.volumes import LoadVolumed, Volume, plain_tensor

PROMPTS_KEY = "prompts"
IDENTITY_KEY = "file_identity"
KEPT_SCANS = 2


class LoadPromptedScand(LoadVolumed):
    """Read a scan as `LoadVolumed` does, and the request's prompts into its metadata.

    The scans read last are kept, so that a click does not wait for a file: a scan is known by its path, size and time
    of change, and read again when one of them differs.

    Args:
        key: entry that holds the scan's path; the other entries are the request, see `read_request`.
        prompts: prompts for all scans, beside which those of the request count.
    """

    _scans: ClassVar[OrderedDict[str, MetaTensor]] = OrderedDict()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, key: str = "image", prompts: Mapping[str, Any] | None = None) -> None:
        super().__init__(key)
        self.key = key
        self.prompts = dict(prompts or {})

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """Return the data with the scan in place of its path; raises VolumeError for an unusable file."""
        identity = _identity(Path(str(data[self.key])))
        with self._lock:
            if identity not in self._scans:
                self._scans[identity] = super().__call__({self.key: data[self.key]})[self.key]
            self._scans.move_to_end(identity)
            while len(self._scans) > KEPT_SCANS:
                self._scans.popitem(last=False)
            kept = self._scans[identity]
        scan = MetaTensor(kept.as_tensor()).copy_meta_from(kept)
        scan.meta[PROMPTS_KEY] = request_text({**self.prompts, **data})
        scan.meta[IDENTITY_KEY] = identity
        return {**data, self.key: scan}


class PromptedInferer(Inferer):
    """Answers the prompts in a scan's metadata; its answer lies on the scan's own grid.

    Sessions of the scans asked for last are kept, with the features of the regions that were looked at, so that only
    the first click on a scan waits for the encoder; a network that was put in another's place is forgotten with them.
    An answer follows from the request alone.

    Args:
        modality: "CT", "MR" or "auto": see `medfm3d.volumes.detect_modality`.
    """

    _sessions: ClassVar[OrderedDict[tuple[str, str, int], PromptSession]] = OrderedDict()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, modality: str = "auto") -> None:
        super().__init__()
        self.modality = modality

    def __call__(self, inputs: Tensor, network: PromptableSegmenter, *args: Any, **kwargs: Any) -> Tensor:
        """Return masks, (B, 1, I, J, K) uint8, of scans (B, 1, I, J, K) read by `LoadPromptedScand`.

        Raises:
            ValueError: if the scans were not read so.
            PromptError: see `PromptSession.answer`.
        """
        if not isinstance(inputs, MetaTensor) or PROMPTS_KEY not in inputs.meta:
            raise ValueError("the scan says nothing of prompts: read it by LoadPromptedScand")
        masks = []
        for number, scan in enumerate(plain_tensor(inputs)):
            request = json.loads(_of_one(inputs.meta[PROMPTS_KEY], number))
            with self._lock:  # one at a time: a session is no place for two
                session = self._session(inputs, scan[0], number, network)
                found = session.answer(read_request(request, session.volume))
                notes = list(session.notes)
            for note in notes:
                warnings.warn(note, stacklevel=2)
            masks.append(torch.from_numpy(found.array)[None])
        answer = MetaTensor(torch.stack(masks)).copy_meta_from(inputs)
        return answer.to(inputs.device)

    def _session(self, inputs: MetaTensor, scan: Tensor, number: int, network: PromptableSegmenter) -> PromptSession:
        identity = _of_one(inputs.meta[IDENTITY_KEY], number)
        kept = self._sessions
        key = (identity, self.modality, id(network))  # no other's: a session holds its network
        if key not in kept:
            affine = np.asarray(inputs.affine, dtype=float)
            affine = affine[number] if affine.ndim == 3 else affine
            source = Path(_of_one(inputs.meta["filename_or_obj"], number))
            volume = Volume(scan.cpu().numpy(), affine, source)
            kept[key] = PromptSession(volume, network, modality=self.modality, device=scan.device)
        kept.move_to_end(key)
        while len(kept) > KEPT_SCANS:
            kept.popitem(last=False)
        return kept[key]


def _identity(path: Path) -> str:
    """Return what tells a file from others, and from itself after a change; for a folder, its files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    marks = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return json.dumps(marks or str(path))


def _of_one(value: Any, number: int) -> Any:
    """Return an entry of one scan; data loaders make lists of those of a batch."""
    return value[number] if isinstance(value, list | tuple) else value
