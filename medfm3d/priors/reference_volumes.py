"""Published organ volumes."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from medfm3d.cohorts.phantom import reference_volume_ml


@dataclass(frozen=True)
class ReferenceVolume:
    """An adult organ's volume by a published table.

    Attributes:
        mean_ml: mean over both sexes.
        cv: standard deviation by mean, as assumed where the table gives none.
        source: the table.
    """

    mean_ml: float
    cv: float
    source: str


def reference_volume(organ: str) -> ReferenceVolume | None:
    """Return the published volume of an organ, whose name may be written with spaces or capitals, or None."""
    return _table().get(_plain(organ))


@cache
def _table() -> dict[str, ReferenceVolume]:
    file = resources.files("medfm3d.priors") / "reference_volumes.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    table = {}
    for organ, row in content["organs"].items():
        volume = ReferenceVolume(reference_volume_ml(organ), row["cv"], content["source"])
        for name in (organ, *row["aliases"]):
            table[_plain(name)] = volume
    return table


def _plain(organ: str) -> str:
    return organ.lower().replace(" ", "_").replace("-", "_")
