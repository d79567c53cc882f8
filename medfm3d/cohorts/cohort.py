"""Cohorts: cases with common labels."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medfm3d.cohorts.errors import CohortError
from medfm3d.cohorts.manifest import CohortManifest


@dataclass(frozen=True)
class Case:
    """One scan and, where there is one, its label map.

    ``annotated`` names the organs that were outlined in this case: one that is not named was not outlined, which is
    not the same as absent. None: all organs of the cohort were. ``suspect`` names organs whose outline the source
    doubts.
    """

    name: str
    image: Path
    label: Path | None = None
    annotated: tuple[str, ...] | None = None
    suspect: tuple[str, ...] = ()

    def outlines(self, organ: str) -> bool:
        """Whether this case has a label map in which the organ was outlined."""
        return self.label is not None and (self.annotated is None or organ in self.annotated)


@dataclass(frozen=True)
class Cohort:
    """A set of cases with common labels, in a fixed order.

    ``labels`` maps label values to names, background (0) included; a cohort of two plain folders may know no more.

    Raises:
        CohortError: several cases have the same name.
    """

    name: str
    cases: tuple[Case, ...]
    labels: Mapping[int, str]
    manifest: CohortManifest | None = None

    def __post_init__(self) -> None:
        if doubled := repeated(case.name for case in self.cases):
            raise CohortError(
                f"cohort {self.name}: several cases are named {some(doubled)}: name each case once, "
                "and give each its own file name"
            )

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    @property
    def names(self) -> tuple[str, ...]:
        """The case names, in order."""
        return tuple(case.name for case in self.cases)

    @property
    def organs(self) -> dict[str, int]:
        """Organ name to label value, without background."""
        return {name: value for value, name in self.labels.items() if value != 0}

    def select(self, names: Iterable[str]) -> "Cohort":
        """The cases of these names, in the order given.

        Raises:
            CohortError: a name is not in the cohort, or is given twice.
        """
        names = list(names)
        known = {case.name: case for case in self}
        if unknown := [name for name in names if name not in known]:
            raise CohortError(f"cohort {self.name} has no case {some(unknown)}: it has {some(sorted(known))}")
        return replace(self, cases=tuple(known[name] for name in names))

    def without(self, names: Iterable[str]) -> "Cohort":
        """The cases that are not named, in their order; names that the cohort does not have are no error."""
        left_out = set(names)
        return replace(self, cases=tuple(case for case in self if case.name not in left_out))

    def with_organs(self, organs: Mapping[str, int]) -> "Cohort":
        """The cohort whose organs of these label values have the names given, in the outlined organs of cases too.

        Raises:
            CohortError: the cohort has an organ of that name at another label value, or names its organs and has none
                at this one.
        """
        if moved := [name for name, value in organs.items() if self.organs.get(name, value) != value]:
            raise CohortError(
                f"cohort {self.name} has {', '.join(f'{name}={self.organs[name]}' for name in moved)}, "
                f"not {', '.join(f'{name}={organs[name]}' for name in moved)}: correct the label values"
            )
        if self.organs and (unknown := [f"{name}={v}" for name, v in organs.items() if v not in self.labels]):
            known = ", ".join(f"{name}={value}" for name, value in self.organs.items())
            raise CohortError(
                f"cohort {self.name} has no label value of {', '.join(unknown)}: it has {known}; correct the value"
            )
        called = {value: name for name, value in organs.items()}
        renamed = {name: called.get(value, name) for name, value in self.organs.items()}
        return replace(
            self,
            cases=tuple(rename_organs(case, renamed) for case in self),
            labels={**self.labels, **called},
        )

    def split(self, name: str) -> "Cohort":
        """The cases of a fixed split of the manifest.

        Raises:
            CohortError: the cohort was read without a manifest, the manifest has no such split, or cases of it are
                missing.
        """
        if self.manifest is None:
            raise CohortError(f"cohort {self.name} was read without a manifest, so it has no fixed splits: give one")
        if name not in self.manifest.splits:
            known = ", ".join(self.manifest.splits) or "none"
            raise CohortError(f"manifest {self.manifest.name} has no split {name!r}: it has {known}")
        return self.select(self.manifest.splits[name])


def rename_organs(case: Case, renamed: Mapping[str, str]) -> Case:
    """Return a case whose outlined and suspect organs have other names."""
    annotated = None if case.annotated is None else tuple(renamed.get(organ, organ) for organ in case.annotated)
    return replace(case, annotated=annotated, suspect=tuple(renamed.get(organ, organ) for organ in case.suspect))


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that come more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def some(names: Sequence[str]) -> str:
    """Return the first names for a message, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
