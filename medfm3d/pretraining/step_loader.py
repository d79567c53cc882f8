"""A data loader that knows how long it was waited for, and needs no state to go on in the middle of an epoch."""

import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader


class StepLoader(DataLoader):
    """A data loader for a `StepSampler`; arguments as of `DataLoader`.

    Attributes:
        waited_s: seconds that `next` has taken so far, over all epochs: what training waited for data.
    """

    waited_s: float = 0.0

    def __iter__(self) -> Iterator[Any]:
        return _TimedIterator(super().__iter__(), self)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the sampler asks the trainer for the batch that is due.

        Lightning takes a loader with a state for one that can go on in the middle of an epoch, which this one can.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing; see `state_dict`."""


class _TimedIterator:
    def __init__(self, batches: Iterator[Any], loader: StepLoader) -> None:
        self._batches = batches
        self._loader = loader

    def __iter__(self) -> "_TimedIterator":
        return self

    def __next__(self) -> Any:
        started = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self._loader.waited_s += time.perf_counter() - started
