"""Names of organs that a promptable network knows."""

from collections.abc import Iterator, Sequence

from medfm3d.volumes.organ_sides import unsided_organ_name


class OrganNames:
    """A table of names; what is not in it has number 0.

    Spelling does not count: neither case, nor punctuation, nor the side, which no network knows that was trained on
    mirrored windows.

    Args:
        names: the known names; number 1 is the first.

    Raises:
        ValueError: if two names are the same but for spelling.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(unsided_organ_name(name) for name in names)
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"organ names must differ by more than spelling and side, got {', '.join(names)}")
        self._numbers = {name: number for number, name in enumerate(self.names, start=1)}

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def number(self, name: str | None) -> int:
        """Return the number of a name, 0 for None or an unknown one."""
        return 0 if name is None else self._numbers.get(unsided_organ_name(name), 0)
