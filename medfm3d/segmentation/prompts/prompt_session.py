"""A scan and a network that answers prompts on it, click by click."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import cc3d
import numpy as np
import torch
from torch import Tensor

from medfm3d.segmentation.prompts.prompt import Prompt, PromptError, Space
from medfm3d.segmentation.prompts.prompt_maps import stacked_maps
from medfm3d.segmentation.prompts.promptable_segmenter import ImageFeatures, PromptableSegmenter
from medfm3d.segmentation.prompts.region import Region, regions_around, whole_region
from medfm3d.volumes import IntensityNormalized, Volume, mask_box, reorient

KEPT_REGIONS = 4  # a window of 128 x 128 x 128 voxels takes 70 MB
MARGIN = 4  # voxels between a prompt and a face of the region
LEAVING = 8  # voxels of a mask at a face of the region for it to be widened


class PromptSession:
    """Prompts on one scan, and the mask that they give.

    Only a region about the first prompt is looked at. Its features are computed once, so that later clicks take a
    fraction of a second. It is widened where a prompt lies outside, or the mask goes on beyond.

    What the answer depends on: the prompts alone, in `segment` and `answer`; in `mask` the mask before the last prompts
    too.

    Args:
        volume: the scan.
        network: the network, with its weights; it is put into evaluation mode.
        modality: "CT", "MR", or "auto": see `medfm3d.volumes.detect_modality`.
        device: where to compute.

    Attributes:
        prompt: the prompts given so far, in voxels of the scan.
        notes: what should be known of the last answer, such as a name that the network does not know.
    """

    def __init__(
        self,
        volume: Volume,
        network: PromptableSegmenter,
        *,
        modality: str = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        self.volume = volume
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.oriented = reorient(volume)
        whole = torch.from_numpy(np.ascontiguousarray(self.oriented.array, dtype=np.float32))[None]
        self.image = IntensityNormalized("image", modality)({"image": whole})["image"]
        self.prompt = Prompt()
        self.notes: list[str] = []
        self._history: list[tuple[Prompt, np.ndarray | None, np.ndarray | None]] = []
        self._before: np.ndarray | None = None  # the mask before the last prompts
        self._current: np.ndarray | None = None  # the mask with them, once it was asked for
        self._features: OrderedDict[Region, ImageFeatures] = OrderedDict()

    def click(self, point: Sequence[float], foreground: bool = True, space: Space = "voxel") -> "PromptSession":
        """Add a point in the organ, or one outside of it; returns the session.

        Raises:
            PromptError: as for all that add prompts: if it is malformed or lies outside of the scan; it is not added.
        """
        return self.add(Prompt(**{"foreground" if foreground else "background": [point]}, space=space))

    def box(self, first: Sequence[float], last: Sequence[float], space: Space = "voxel") -> "PromptSession":
        """Add a box by two opposite corners; on a slice, see `flat_box`. Returns the session."""
        return self.add(Prompt(boxes=[[first, last]], space=space))

    def scribble(
        self, points: Sequence[Sequence[float]] | np.ndarray, foreground: bool = True, space: Space = "voxel"
    ) -> "PromptSession":
        """Add the points of a stroke, or a mask of strokes (I, J, K) bool on the scan's grid; returns the session."""
        strokes = np.asarray(points)
        if strokes.ndim == 3:
            if strokes.shape != self.volume.shape:
                raise PromptError(f"scribbles have shape {strokes.shape}, the scan {self.volume.shape}: resample them")
            strokes, space = np.argwhere(strokes), "voxel"
        name = "foreground_scribble" if foreground else "background_scribble"
        return self.add(Prompt(**{name: strokes}, space=space))

    def start_from(self, mask: Volume | np.ndarray) -> "PromptSession":
        """Go on from a mask on the scan's grid, such as one of an earlier session; returns the session."""
        return self.add(Prompt(mask=mask.array if isinstance(mask, Volume) else np.asarray(mask)))

    def name(self, organ: str) -> "PromptSession":
        """Say what the organ is called; returns the session."""
        return self.add(Prompt(organ=organ))

    def add(self, prompt: Prompt) -> "PromptSession":
        """Add prompts of any kind; returns the session."""
        checked = prompt.on(self.volume, self.volume)
        self._history.append((self.prompt, self._before, self._current))
        self.prompt = self.prompt.extended(checked)
        if prompt.mask is not None:
            self._before = None
        elif self._current is not None:
            self._before = self._current
        self._current = None
        return self

    def fresh(self) -> "PromptSession":
        """Forget all prompts, for the next organ of the scan; features stay. Returns the session."""
        self.prompt, self._before, self._current = Prompt(), None, None
        self._history.clear()
        return self

    def undo(self) -> "PromptSession":
        """Take back the last prompt; returns the session.

        Raises:
            PromptError: if there is none.
        """
        if not self._history:
            raise PromptError("there is no prompt to take back")
        self.prompt, self._before, self._current = self._history.pop()
        return self

    def mask(self) -> Volume:
        """Return the organ's mask, uint8 of 0 and 1, on exactly the scan's grid.

        The mask before the last prompts goes into this one, as the network has learnt it: it corrects rather than
        starts anew. Without new prompts the mask stays as it is.

        Raises:
            PromptError: if nothing was pointed at, or only an unknown name was given.
        """
        if self._current is None:
            before = self.prompt.mask if self._before is None else self._before
            self._current = self.segment(replace(self.prompt, mask=before)).array
        return Volume(self._current.copy(), self.volume.affine, self.volume.source)

    def answer(self, prompt: Prompt) -> Volume:
        """Return the mask of prompts that come all at once, whatever was asked before; raises as `segment`.

        The network has learnt to correct a mask, so what was pointed at first is answered first, and that mask then
        corrected by all prompts. On 5 development cases of MSD Hippocampus mean Dice after 3 clicks is 0.634 so, 0.485
        by `segment` alone, and 0.627 where each click corrected the mask of the one before.
        """
        first = prompt.first()
        if prompt.mask is not None or first is None:
            return self.segment(prompt)
        start = self.segment(first).array > 0
        return self.segment(replace(prompt, mask=start if start.any() else None))

    @torch.no_grad()
    def segment(self, prompt: Prompt) -> Volume:
        """Return the mask that prompts give, whatever was asked before; as `mask`.

        Raises:
            PromptError: as `mask`, and if a prompt lies outside of the scan.
        """
        placed = prompt.on(self.volume, self.oriented)
        organ = self._organ(placed)
        places = _places(placed)
        for region in self._regions(placed):
            if not region.is_whole and not region.holds(places, MARGIN):
                continue
            part = self._answer(region, placed, organ)
            if region.is_whole or not region.is_left_by(part, LEAVING):
                break
        found = np.zeros(self.oriented.shape, dtype=np.uint8)
        found[region.inside] = part
        return Volume(
            np.ascontiguousarray(reorient(Volume(found, self.oriented.affine), self.volume.orientation).array),
            self.volume.affine,
            self.volume.source,
        )

    def encode(self, region: Region) -> ImageFeatures:
        """Return the features of a region, computed at the first call."""
        if region in self._features:
            self._features.move_to_end(region)
        else:
            self._features[region] = self.network.encode(region.cut(self.image).to(self.device))
            if len(self._features) > KEPT_REGIONS:
                self._features.popitem(last=False)
        return self._features[region]

    def _regions(self, placed: Prompt) -> list[Region]:
        multiple = self.network.window_multiple
        if not placed.has_place:
            return [whole_region(self.image.shape[1:], multiple)]
        return list(regions_around(_anchor(placed), self.image.shape[1:], multiple))

    def _answer(self, region: Region, placed: Prompt, organ: Tensor) -> np.ndarray:
        """Return the mask on the region's part of the scan, (i, j, k) bool."""
        foreground = np.concatenate([placed.foreground, placed.foreground_scribble])
        background = np.concatenate([placed.background, placed.background_scribble])
        before = None
        if placed.mask is not None:
            before = region.cut(torch.from_numpy(np.ascontiguousarray(placed.mask))[None])[0, 0]
        maps = stacked_maps(
            region.to_window(foreground),
            region.to_window(background),
            region.to_window(placed.boxes),
            before,
            region.window,
        )
        logits = self.network.decode(self.encode(region), maps[None].to(self.device), organ)
        found = (region.to_scan(logits) > 0).cpu().numpy()
        outlined = None if placed.mask is None else placed.mask[region.inside]
        return _pointed_at(found, foreground - np.array(region.start), outlined)

    def _organ(self, placed: Prompt) -> Tensor:
        number = self.network.organ_names.number(placed.organ)
        self.notes = []
        if placed.organ is not None and not number:
            self.notes.append(f"{placed.organ!r} is not a name that the network knows: it changes nothing")
        if not placed.has_place and not number:
            known = ", ".join(self.network.organ_names)
            reason = "nothing is pointed at" if placed.organ is None else f"{placed.organ!r} is not known"
            raise PromptError(f"{reason}: give a point, a box, a scribble or a mask, or a name among {known}")
        inside = len(placed.foreground) + len(placed.boxes) + len(placed.foreground_scribble)
        if not inside and placed.mask is None and not number:
            raise PromptError("there are background prompts alone: give a point or a box in the organ too")
        return torch.tensor([number], device=self.device)


def _anchor(placed: Prompt) -> np.ndarray:
    """Return the middle of the first prompt."""
    if len(placed.boxes):
        return placed.boxes[0].mean(axis=0)
    if len(placed.foreground):
        return placed.foreground[0]
    if len(placed.foreground_scribble):
        return placed.foreground_scribble.mean(axis=0)
    if placed.mask is not None and placed.mask.any():
        return np.array([(part.start + part.stop - 1) / 2 for part in mask_box(placed.mask)])
    return (placed.background if len(placed.background) else placed.background_scribble)[0]


def _places(placed: Prompt) -> np.ndarray:
    """Return all points that must be in sight, (N, 3)."""
    corners = placed.boxes.reshape(-1, 3)
    found = [placed.foreground, placed.background, placed.foreground_scribble, placed.background_scribble, corners]
    if placed.mask is not None and placed.mask.any():
        box = mask_box(placed.mask)
        found.append(np.array([[part.start for part in box], [part.stop - 1 for part in box]]))
    return np.concatenate(found)


def _pointed_at(mask: np.ndarray, points: np.ndarray, outlined: np.ndarray | None) -> np.ndarray:
    """Return the pieces of a mask that hold one of the points, or were outlined by half; all of it if none does."""
    pieces = cc3d.connected_components(mask, connectivity=26)
    nearest = np.round(points).astype(int)
    nearest = nearest[((nearest >= 0) & (nearest < mask.shape)).all(axis=1)]
    wanted = np.unique(pieces[tuple(nearest.T)])
    if outlined is not None:
        sizes = np.bincount(pieces.ravel())
        known = np.bincount(pieces[outlined].ravel(), minlength=len(sizes))
        wanted = np.union1d(wanted, np.flatnonzero(2 * known >= sizes))
    wanted = wanted[wanted > 0]
    return np.isin(pieces, wanted) if len(wanted) else mask
