"""A training's budget of CPU seconds, turned into a number of iterations."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from fewshot_benchmark.clock import cpu_seconds

WARM_UP = 2
MEASURED = 10


@dataclass(frozen=True)
class Budget:
    """CPU seconds that adaptation may take in all, planning and preprocessing included.

    Attributes:
        cpu_s: the budget.
        started_cpu_s: what `cpu_seconds` returned when adaptation began.
        spent_s: what an earlier process spent of the budget.
    """

    cpu_s: float
    started_cpu_s: float
    spent_s: float = 0.0

    @property
    def left_s(self) -> float:
        """CPU seconds that are left now."""
        return self.cpu_s - self.spent_s - (cpu_seconds() - self.started_cpu_s)

    def measure(self, iterate: Callable[[], object]) -> tuple[int, float]:
        """Do the first iterations of a training and return how many they were and what one takes, in CPU seconds.

        The first two, which also fill caches, are not measured; a small budget is measured on fewer.
        """
        enough = self.left_s / 2
        costs: list[float] = []
        while len(costs) < 3 or (len(costs) < WARM_UP + MEASURED and self.left_s > enough):
            before = cpu_seconds()
            iterate()
            costs.append(cpu_seconds() - before)
        return len(costs), statistics.fmean(costs[WARM_UP:])

    def iterations_left(self, iteration_s: float) -> int:
        """Return how many iterations still fit, at least one."""
        return max(1, int(self.left_s / iteration_s))
