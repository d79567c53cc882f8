"""What one run of the benchmark is: a cohort, K, a seed and a method, and the conditions under which it is made."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PEERS = ("nnunet", "nnunet-nomirroring", "monai-swinunetr")


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        data: folder of the cohort's folder.
        cohort: name of the cohort's folder.
        organs: names of the organs to segment; empty for all of the cohort.
        k: number of support cases.
        seed: of the draw of the support set and of all else.
        method: a peer, or the name of an adaptation method of medfm3d.
        settings: config values of medfm3d's train workflow by id; those of its inference workflow begin with
            "segment.".
        budget_s: CPU seconds that a peer may take to adapt; None for medfm3d, whose methods have their own length.
        split: where the scored cases come from, "test" or "development".
        cases: largest number of scored cases; None for all (of development: half of what is left).
        threads: CPU cores that the run may use.
    """

    data: str
    cohort: str
    organs: tuple[str, ...]
    k: int
    seed: int
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    budget_s: float | None = None
    split: str = "test"
    cases: int | None = None
    threads: int = 1

    @property
    def label(self) -> str:
        """Name of the method with its settings or budget, as tables show it."""
        if self.budget_s is not None:
            return f"{self.method}@{self.budget_s:g}s"
        return ":".join([self.method, *(f"{key}={json.dumps(value)}" for key, value in self.settings.items())])

    @property
    def is_peer(self) -> bool:
        """Whether the method is a peer's rather than medfm3d's."""
        return self.method in PEERS

    def result_file(self, work: Path) -> Path:
        """Return the file that holds the run's result, once it has one."""
        name = re.sub(r"[^\w.@=,#+-]+", "_", self.label)
        return work / self.cohort / str(self.k) / str(self.seed) / f"{name}.json"

    def folder(self, work: Path) -> Path:
        """Return the folder of everything else that the run makes."""
        return self.result_file(work).with_suffix("")

    def to_json(self) -> dict[str, Any]:
        """Return the job as plain JSON values."""
        return {**asdict(self), "organs": list(self.organs)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Job":
        """Return the job that `to_json` gave."""
        return cls(**{**content, "organs": tuple(content["organs"])})


def parse_method(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and settings in NAME[:KEY=VALUE]...; values are JSON, or plain text where they are not.

    Raises:
        ValueError: if a setting has another form.
    """
    name, *parts = text.split(":")
    settings: dict[str, Any] = {}
    for part in parts:
        key, separator, value = part.partition("=")
        if not separator or not key:
            raise ValueError(f"method {text!r}: expected NAME:KEY=VALUE, such as decoder:iterations=200, got {part!r}")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return name, settings
