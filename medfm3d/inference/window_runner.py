"""The network over batches of windows: on one device or several, with back-off when memory runs out."""

import copy
import itertools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from medfm3d.inference.window_grid import Window


class WindowRunner:
    """Run a network on windows of a volume and yield their scores in the windows' order.

    On CUDA the next batch is copied from pinned memory in a stream of its own while the network works on this one.
    When a device runs out of memory, it goes on with half as many windows at once, and says so.

    Args:
        network: from (B, C, d, h, w) to scores (B, classes, d, h, w).
        device: where it runs; `network` must be there.
        windows_at_once: windows of a batch.
        mirror_axes: of 0, 1, 2: scores are averaged over all mirrorings along these axes.
        autocast: type to compute in, such as torch.bfloat16; none if None.
        channels_last: memory format of windows; the network is brought to it as well.
        devices: run copies of the network on these, a batch each in turn, instead of on `device`.

    Raises:
        MemoryError: when run, if a device has no room for a single window.
        TypeError: when run, if the network gives anything but one tensor of the window's size.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        device: torch.device,
        *,
        windows_at_once: int = 1,
        mirror_axes: Sequence[int] = (),
        autocast: torch.dtype | None = None,
        channels_last: bool = False,
        devices: Sequence[torch.device] = (),
    ) -> None:
        if windows_at_once < 1:
            raise ValueError(f"at least one window is run at once, got {windows_at_once}")
        if not set(mirror_axes) <= {0, 1, 2}:
            raise ValueError(f"mirror_axes must be of 0, 1 and 2, got {tuple(mirror_axes)}")
        self.device = device
        self.windows_at_once = windows_at_once
        self.mirrorings = [
            axes for count in range(len(mirror_axes) + 1) for axes in itertools.combinations(mirror_axes, count)
        ]
        self.autocast = autocast
        self.layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        self.replicas = [(network, device)]
        if devices:
            if not isinstance(network, nn.Module):
                raise TypeError("to run on several devices the network must be a torch module, which can be copied")
            self.replicas = [(copy.deepcopy(network).to(one), one) for one in devices]
        if channels_last:
            for replica, _ in self.replicas:
                if isinstance(replica, nn.Module):
                    replica.to(memory_format=torch.channels_last_3d)

    def run(self, volume: Tensor, windows: Iterable[Window]) -> Iterator[tuple[Window, Tensor]]:
        """Yield each window with its scores (classes, d, h, w), which the caller may change.

        Args:
            volume: (C, D, H, W), on any device.
            windows: those to run.
        """
        batches = _batches(windows, lambda: self.windows_at_once)
        results = self._in_turn(volume, batches) if len(self.replicas) > 1 else self._ahead(volume, batches)
        for batch, scores in results:
            for number, window in enumerate(batch):
                yield window, scores[number]
            del scores  # or they would still be held while the next are computed

    def _ahead(self, volume: Tensor, batches: Iterator[list[Window]]) -> Iterator[tuple[list[Window], Tensor]]:
        """One device: on CUDA a batch is under way while the scores of the one before are used."""
        (network, device), waiting = self.replicas[0], deque()
        behind = 1 if device.type == "cuda" else 0
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        for batch in batches:
            waiting.append((batch, self._predict(network, _gather(volume, batch, device, stream), device)))
            if len(waiting) > behind:
                yield waiting.popleft()
        yield from waiting

    def _in_turn(self, volume: Tensor, batches: Iterator[list[Window]]) -> Iterator[tuple[list[Window], Tensor]]:
        """Several devices, each with a thread of its own; results are taken in the order of the batches."""

        def task(network: Callable[..., Any], batch: list[Window], device: torch.device) -> Tensor:
            with torch.no_grad():  # which is set for each thread apart
                return self._predict(network, _gather(volume, batch, device, None), device).to(self.device)

        workers = [ThreadPoolExecutor(1) for _ in self.replicas]
        waiting: deque[tuple[list[Window], Future[Tensor]]] = deque()
        try:
            for batch, (worker, (network, device)) in zip(
                batches, itertools.cycle(zip(workers, self.replicas, strict=True)), strict=False
            ):
                waiting.append((batch, worker.submit(task, network, batch, device)))
                if len(waiting) > 2 * len(workers):
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for worker in workers:
                worker.shutdown(cancel_futures=True)

    def _predict(self, network: Callable[..., Any], batch: Tensor, device: torch.device) -> Tensor:
        try:
            return self._averaged(network, batch.contiguous(memory_format=self.layout), device)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            sides = "x".join(str(side) for side in batch.shape[2:])
            if len(batch) == 1:
                raise MemoryError(
                    f"{device} has no room for the network on one window of {sides} voxels ({error}); use smaller "
                    "windows, a smaller autocast type, or another device"
                ) from error
        if device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(batch) // 2
        if half < self.windows_at_once:
            self.windows_at_once = half
            warnings.warn(
                f"{device} ran out of memory with {len(batch)} windows of {sides} voxels at once; going on with {half}",
                stacklevel=2,
            )
        parts, done = [], 0
        while done < len(batch):  # in steps that may shrink again on the way
            parts.append(self._predict(network, batch[done : done + min(half, self.windows_at_once)], device))
            done += len(parts[-1])
        return torch.cat(parts)

    def _averaged(self, network: Callable[..., Any], batch: Tensor, device: torch.device) -> Tensor:
        total: Tensor | None = None
        for axes in self.mirrorings:
            dims = [axis + 2 for axis in axes]
            with self._precision(device):
                scores = network(batch.flip(dims) if dims else batch)
            if not isinstance(scores, Tensor) or scores.shape[2:] != batch.shape[2:] or len(scores) != len(batch):
                said = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
                raise TypeError(
                    f"streaming needs a network that gives one tensor (B, classes, d, h, w) of the size of its windows "
                    f"{tuple(batch.shape)}, got {said}"
                )
            scores = scores.float().flip(dims) if dims else scores.float()
            total = scores if total is None else total.add_(scores)
        return total if len(self.mirrorings) == 1 else total / len(self.mirrorings)

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext() if self.autocast is None else torch.autocast(device.type, self.autocast)


def _batches(windows: Iterable[Window], size: Callable[[], int]) -> Iterator[list[Window]]:
    """Cut windows into batches of the size that is asked for when a batch begins."""
    rest = iter(windows)
    while batch := list(itertools.islice(rest, size())):
        yield batch


def _gather(
    volume: Tensor, batch: Sequence[Window], device: torch.device, stream: "torch.cuda.Stream | None"
) -> Tensor:
    """Return a batch's windows (B, C, d, h, w) on a device, copied in a stream of its own if there is one."""
    windows = torch.stack([volume[(slice(None), *window)] for window in batch])
    if stream is None or windows.device.type == "cuda":
        return windows.to(device)
    with torch.cuda.stream(stream):
        moved = windows.pin_memory().to(device, non_blocking=True)
    current = torch.cuda.current_stream(device)
    current.wait_stream(stream)
    moved.record_stream(current)
    return moved


def _out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out; on the CPU torch says so in a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
