"""Left and right in names of organs."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

Side = Literal["left", "right"]
_SIDES: dict[str, Side] = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
# Of a name whose capitals, other letters and digits are written A, a and 0: a letter with a number; a word in capitals;
# a word, capitalised or not; a number, as in 3rd too.
_WORD = r"(?<!A)A0+|(?<![Aa])a0+|A+(?!a)|A?a+|0+a*"


def organ_side(name: str) -> tuple[Side | None, str]:
    """Return the side that an organ's name tells, or None, and the name without it in plain lower case.

    Understood are LeftParotid, left_kidney, "kidney, left", Lung_R, "rt. femur" and the like: a word of its own, or one
    set off by capitals. A name that tells both sides tells none. A letter that a number follows at once is no side:
    vertebrae_L1 is the first lumbar one.
    """
    words = _words(name)
    told = {_SIDES[word] for word in words if word in _SIDES}
    rest = " ".join(word for word in words if word not in _SIDES)
    if len(told) != 1 or not rest:
        return None, " ".join(words)
    return told.pop(), rest


def plain_organ_name(name: str) -> str:
    """Return a name as lower-case words apart by single spaces, its side included: "LeftKidney" is "left kidney"."""
    return " ".join(_words(name))


def unsided_organ_name(name: str) -> str:
    """Return a name as plain_organ_name does, without its side: "Kidney_L" is "kidney"."""
    return organ_side(name)[1]


def organ_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs (left organ, right organ) among names."""
    sided = {organ_side(name): name for name in names}
    return [
        (name, sided["right", rest])
        for (side, rest), name in sided.items()
        if side == "left" and ("right", rest) in sided
    ]


def _words(name: str) -> list[str]:
    name = unicodedata.normalize("NFC", name)
    kinds = "".join(map(_kind, name))  # since re has no classes for capitals of all alphabets
    return [name[word.start() : word.end()].lower() for word in re.finditer(_WORD, kinds)]


def _kind(character: str) -> str:
    if character.isalpha():
        return "A" if character.isupper() else "a"
    return "0" if character.isdecimal() else " "
