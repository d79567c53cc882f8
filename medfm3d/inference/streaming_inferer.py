"""Sliding-window inference whose memory does not grow with classes times volume."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map
from monai.inferers import Inferer
from monai.utils import ensure_tuple_rep
from torch import Tensor

from medfm3d.inference.cell_accumulator import CellAccumulator
from medfm3d.inference.cell_writer import CellWriter
from medfm3d.inference.input_grid import input_grid, on_input_grid
from medfm3d.inference.output_grid import OutputGrid
from medfm3d.inference.reductions import REDUCTIONS, create_reduction
from medfm3d.inference.score_reduction import ScoreReduction
from medfm3d.inference.window_grid import WindowGrid
from medfm3d.inference.window_runner import WindowRunner
from medfm3d.volumes import plain_tensor

OUTSIDE_LOGIT = -20.0  # of what no window looked at; background, if there is one, has 0 there

Skip = Callable[[Tensor], bool]


class StreamingInferer(Inferer):
    """MONAI's sliding window, with the same scores, that reduces each part of a volume as soon as it is finished.

    `monai.inferers.SlidingWindowInferer` keeps the scores of all classes for the whole volume: 117 classes of
    512 x 512 x 300 voxels take 37 GB. Here windows advance along the volume's longest axis, and what no later window
    will touch is reduced to what is wanted, written to the result and forgotten.

    With `reduction="logits"` it replaces MONAI's inferer in any bundle. "labels" gives (B, 1, D, H, W) class numbers
    and replaces softmax and argmax behind it too. With `grid="input"`, the result is resampled to the grid of the file
    part by part, from probabilities, so that `Invertd` goes as well; the input must be a MetaTensor with
    `original_affine` and `spatial_shape`, as readers note them, and have been brought to its grid by reorientation and
    resampling alone.

    Args:
        roi_size: sides of a window in voxels; one number for a cube.
        sw_batch_size: windows that are run at once.
        overlap: share of a window that the next one covers again, below 1; one number or three.
        mode: "gaussian" or "constant": how overlapping windows are weighed.
        sigma_scale: standard deviation of the Gaussian, as a share of the window.
        padding_mode: "constant", "reflect", "replicate" or "circular", where a volume is smaller than a window.
        cval: value for padding_mode "constant".
        sw_device: where the network runs, and is; that of the inputs if None.
        device: where scores are summed up and the result lies; that of the inputs if None.
        reduction: what is kept, of `medfm3d.inference.reductions.REDUCTIONS`.
        grid: "network" or "input".
        accumulate: type in which scores are summed up: torch.float32, or torch.float16 or torch.bfloat16 for half of
            the memory (on a CPU at the cost of time).
        skip: says of a window (C, d, h, w) that it need not be run; voxels that no window covers are background.
        output_file: where the result is kept as a memory-mapped NumPy array (.npy), instead of in memory; for one
            volume at a time.
        mirror_axes: of 0, 1, 2: scores are averaged over all mirrorings along these axes. Left and right organs cannot
            be told apart that way if 0, in RAS orientation, is among them.
        autocast: type to compute in, such as torch.bfloat16.
        channels_last: memory format of windows and network.
        compile: run the network through `torch.compile`.
        devices: run copies of the network on these devices.

    Raises:
        ValueError: for an unknown reduction or grid, and when called, if the input does not fit them.
        MemoryError: when called, if not even a single window fits.
    """

    def __init__(
        self,
        roi_size: int | Sequence[int],
        sw_batch_size: int = 1,
        overlap: float | Sequence[float] = 0.25,
        mode: str = "constant",
        sigma_scale: float | Sequence[float] = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        *,
        reduction: str = "labels",
        grid: str = "network",
        accumulate: torch.dtype = torch.float32,
        skip: Skip | None = None,
        output_file: str | Path | None = None,
        mirror_axes: Sequence[int] = (),
        autocast: torch.dtype | None = None,
        channels_last: bool = False,
        compile: bool = False,
        devices: Sequence[torch.device | str] = (),
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS or grid not in ("network", "input"):
            raise ValueError(
                f"reduction must be one of {', '.join(REDUCTIONS)} and grid network or input, got {reduction!r} and "
                f"{grid!r}"
            )
        self.roi_size = ensure_tuple_rep(roi_size, 3)
        self.overlap = ensure_tuple_rep(overlap, 3)
        self.mode, self.sigma_scale = mode, sigma_scale
        self.padding_mode, self.cval = padding_mode, cval
        self.sw_device, self.device = sw_device, device
        self.reduction, self.grid, self.accumulate = reduction, grid, accumulate
        self.skip = skip
        self.output_file = output_file
        self.compile = compile
        self.runner_options = {
            "windows_at_once": sw_batch_size,
            "mirror_axes": tuple(mirror_axes),
            "autocast": autocast,
            "channels_last": channels_last,
            "devices": tuple(torch.device(one) for one in devices),
        }

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return what is kept of the scores of inputs (B, C, D, H, W): (B, channels, ...) on the grid asked for."""
        if inputs.ndim != 5:
            raise ValueError(f"expected a volume (B, C, D, H, W), got {tuple(inputs.shape)}")
        if self.output_file is not None and inputs.shape[0] != 1:
            raise ValueError(f"output_file holds one volume, got a batch of {inputs.shape[0]}; use a batch size of 1")
        compiled = torch.compile(network) if self.compile else network
        sw_device = torch.device(self.sw_device or inputs.device)
        # Copies for several devices are made of a module, so arguments are bound only where there are any.
        bound = (lambda batch: compiled(batch, *args, **kwargs)) if args or kwargs else compiled
        runner = WindowRunner(bound, sw_device, **self.runner_options)
        results, notes = [], []
        for number, volume in enumerate(plain_tensor(inputs)):
            output_grid = OutputGrid.same(volume.shape[1:]) if self.grid == "network" else input_grid(inputs, number)
            writer = self._write(volume, output_grid, runner)
            results.append(writer.output)
            notes.append(writer.reduction.notes())
        stacked = results[0][None] if len(results) == 1 else torch.stack(results)
        if not isinstance(inputs, MetaTensor):
            return stacked
        same_grid = self.grid == "network"
        wrapped = MetaTensor(stacked).copy_meta_from(inputs) if same_grid else on_input_grid(stacked, inputs)
        for key in notes[0]:
            wrapped.meta[key] = [noted[key] for noted in notes]
        return wrapped

    def _write(self, volume: Tensor, output_grid: OutputGrid, runner: WindowRunner) -> CellWriter:
        size = tuple(volume.shape[1:])
        volume, padding = _padded(volume, self.roi_size, self.padding_mode, self.cval)
        grid = WindowGrid(tuple(volume.shape[1:]), self.roi_size, self.overlap)
        device = torch.device(self.device or volume.device)
        weight = compute_importance_map(self.roi_size, mode=self.mode, sigma_scale=self.sigma_scale)
        windows = list(grid.windows())
        wanted = [self.skip is None or not self.skip(volume[(slice(None), *window)]) for window in windows]
        if not any(wanted):
            wanted[0] = True  # the number of classes is known from the network alone
        results = runner.run(volume, itertools.compress(windows, wanted))
        first = next(results)
        classes = len(first[1])
        results = itertools.chain([first], results)
        del first  # a window's scores are a good part of all that is held
        background = _background(classes, self.reduction)
        reduction = create_reduction(self.reduction, classes)
        mean = not (reduction.scale_free and self.grid == "network")
        cells = CellAccumulator(grid, weight, self.accumulate, device, background, mean)
        output = self._allocate(reduction, classes, output_grid, device)
        writer = CellWriter(grid, padding, size, output_grid, reduction, output)
        for window, run in zip(windows, wanted, strict=True):
            for cell, scores in cells.add(*next(results)) if run else cells.skip(window):
                writer.write(cell, scores)
                del scores  # it may be a part of the window's scores, which would be held while the next are computed
        return writer

    def _allocate(self, reduction: ScoreReduction, classes: int, grid: OutputGrid, device: torch.device) -> Tensor:
        shape = (reduction.channels(classes), *grid.shape)
        if self.output_file is None:
            return torch.empty(shape, dtype=reduction.dtype, device=device)
        dtype = np.dtype(str(reduction.dtype).removeprefix("torch."))
        return torch.from_numpy(np.lib.format.open_memmap(self.output_file, "w+", dtype, shape))


def _padded(
    volume: Tensor, window: tuple[int, int, int], mode: str, value: float
) -> tuple[Tensor, tuple[int, int, int]]:
    """Pad a volume (C, D, H, W) that is smaller than a window, evenly, and return what was put in front."""
    lacking = [max(0, wanted - side) for wanted, side in zip(window, volume.shape[1:], strict=True)]
    before = tuple(missing // 2 for missing in lacking)
    if not any(lacking):
        return volume, before
    amounts = [amount for front, missing in zip(before, lacking, strict=True) for amount in (missing - front, front)]
    # F.pad wants the last axis first, and what comes in front of each before what comes behind.
    return F.pad(volume[None], amounts[::-1], mode=mode, value=value)[0], before


def _background(classes: int, reduction: str) -> Tensor:
    """Return the logits (classes,) of voxels that nobody looked at."""
    logits = torch.full((classes,), OUTSIDE_LOGIT)
    if not reduction.startswith("multilabel"):
        logits[0] = 0
    return logits
