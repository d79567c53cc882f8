"""One of several parts of a batch, each done by a process of its own, as in a Slurm array."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BatchShard:
    """The n-th of several shards; every scan of a list is in exactly one of them.

    Attributes:
        number: from 1.
        count: how many there are.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "BatchShard":
        """Return the shard of a text such as "2/8"; raises ValueError for any other form."""
        parts = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        number, count = map(int, parts.groups()) if parts else (0, 0)
        if not 1 <= number <= count:
            raise ValueError(f"--shard {text}: expected I/N with I from 1 to N, such as 2/8 for the second of eight")
        return cls(number, count)

    @property
    def journal_name(self) -> str:
        """Name of the journal that this shard alone writes to."""
        return f"segmentation_journal.{self.number}_of_{self.count}.jsonl"

    def of(self, scans: Sequence[Path]) -> list[Path]:
        """Return this shard's scans: every N-th, so that neighbours in the list, which are often alike, are spread."""
        return list(scans[self.number - 1 :: self.count])
