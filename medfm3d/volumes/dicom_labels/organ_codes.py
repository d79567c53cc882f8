"""What an organ is called in SNOMED CT, as DICOM asks for it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pydicom.sr.coding import Code

from medfm3d.volumes.dicom_labels.made_by import LONGEST
from medfm3d.volumes.organ_sides import organ_side, plain_organ_name

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")  # DICOM PS3.16, CID 7150
BODY_STRUCTURE = Code("123037004", "SCT", "Body structure")  # of which we know no more
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")  # CID 7150
SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}  # CID 244
PRIVATE_SCHEME = "99MEDFM3D"  # PS3.16, 8.2: schemes that begin with 99 are private


@dataclass(frozen=True)
class OrganCode:
    """Codes of one organ.

    Attributes:
        category: what kind of thing it is (CID 7150).
        type: what it is.
        side: left or right, of a paired organ; None if the name does not say.
    """

    category: Code
    type: Code
    side: Code | None = None

    @property
    def known(self) -> bool:
        """Whether the organ's own code was found, not a private one made up of its name."""
        return self.type.scheme_designator != PRIVATE_SCHEME


def organ_code(organ: str) -> OrganCode:
    """Return the codes of an organ, whose name may be written as kidney_left, LeftKidney, Kidney_L or "left kidney".

    An organ that is not in the table gets a code of the private scheme 99MEDFM3D, made of its name, so that no two
    organs have the same one; its meaning is the name itself. A side counts for paired organs alone: "left liver" is not
    taken for the liver.
    """
    table, plain = _table(), plain_organ_name(organ)
    if plain in table:
        return table[plain][0]
    side, rest = organ_side(organ)
    if side is not None and rest in table:
        code, paired = table[rest]
        if paired:
            return OrganCode(code.category, code.type, SIDES[side])
    made_up = hashlib.sha256(organ.lower().encode()).hexdigest()[:12].upper()
    return OrganCode(BODY_STRUCTURE, Code(made_up, PRIVATE_SCHEME, organ[:LONGEST]))


def uncoded_organs(organs: Iterable[str]) -> list[str]:
    """Return those organs of which no code of SNOMED CT is known here."""
    return [organ for organ in organs if not organ_code(organ).known]


@cache
def _table() -> dict[str, tuple[OrganCode, bool]]:
    """Return codes, and whether the organ is paired, by plain name."""
    file = resources.files(__package__) / "organ_codes.json"
    categories = {code.value: code for code in (ANATOMICAL_STRUCTURE, ABNORMAL_STRUCTURE)}
    table = {}
    for row in json.loads(file.read_text(encoding="utf-8"))["organs"]:
        category = categories[row.get("category", ANATOMICAL_STRUCTURE.value)]
        code = OrganCode(category, Code(row["code"], "SCT", row["meaning"]))
        for name in row["names"]:
            table[name] = (code, row.get("paired", False))
    return table
