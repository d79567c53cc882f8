"""What a row of the fault table is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOOD_SHAPE = (12, 11, 10)


@dataclass(frozen=True)
class Fault:
    """A fault, and what is said of it.

    Attributes:
        name: what is wrong, in words.
        says: what the message holds, beside the name of the file.
        provoke: makes the file, or does what goes wrong; what it gets depends on the table's section.
        suffix: of the file, for faults of scans.
    """

    name: str
    says: str
    provoke: Callable[..., Any]
    suffix: str = ""

    @property
    def file_name(self) -> str:
        """Its name as a file's."""
        return self.name.replace(" ", "_").replace("/", "_") + self.suffix


@dataclass(frozen=True)
class Section:
    """Faults of one kind.

    Attributes:
        title: heading in the documentation.
        outcome: what happens, in words.
        faults: its rows.
    """

    title: str
    outcome: str
    faults: tuple[Fault, ...]


def faults_of(*rows: tuple[str, str, Callable[..., Any]], suffix: str = "") -> tuple[Fault, ...]:
    """Return rows of name, message and what provokes it."""
    return tuple(Fault(name, says, provoke, suffix) for name, says, provoke in rows)


def folder_of(path: Path) -> Path:
    """Make the folder of a file to be and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent
