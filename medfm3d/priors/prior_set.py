"""The priors of a segmenter, fitted, asked and stored together."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from medfm3d.priors.adjacency_prior import AdjacencyPrior
from medfm3d.priors.components_prior import ComponentsPrior
from medfm3d.priors.laterality_prior import LateralityPrior
from medfm3d.priors.location_prior import LocationPrior
from medfm3d.priors.prior import Prior, Surprise
from medfm3d.priors.topology_prior import TopologyPrior
from medfm3d.priors.volume_prior import VolumePrior
from medfm3d.volumes import Volume, write_json

FORMAT = "medfm3d-priors-1"
_KINDS = (VolumePrior, ComponentsPrior, LocationPrior, LateralityPrior, AdjacencyPrior, TopologyPrior)
PRIORS: dict[str, type[Prior]] = {prior.name: prior for prior in _KINDS}


def create_priors(names: Sequence[str], modality: str = "auto") -> list[Prior]:
    """Return the priors of these names, not fitted yet.

    Args:
        names: keys of `PRIORS`.
        modality: "CT", "MR" or "auto", for those that look at scans.

    Raises:
        ValueError: for an unknown name.
    """
    if unknown := [name for name in names if name not in PRIORS]:
        raise ValueError(f"unknown priors {', '.join(map(str, unknown))}: choose from {', '.join(PRIORS)}")
    looking = (LocationPrior, LateralityPrior)
    return [PRIORS[name](modality) if PRIORS[name] in looking else PRIORS[name]() for name in names]


class PriorSet:
    """Several priors on the same organs.

    Args:
        priors: one of each kind at most.
    """

    def __init__(self, priors: Sequence[Prior]) -> None:
        self.priors = {prior.name: prior for prior in priors}
        if len(self.priors) != len(priors):
            raise ValueError(f"each kind of prior may come once, got {[prior.name for prior in priors]}")

    def __getitem__(self, name: str) -> Prior:
        return self.priors[name]

    def fit(
        self, labels: Sequence[Volume], organs: Mapping[str, int], images: Sequence[Volume] | None = None
    ) -> "PriorSet":
        """Fit every prior to the support set; returns the set. See `Prior.fit`."""
        if not labels:
            raise ValueError("no label maps to fit priors to")
        for prior in self.priors.values():
            prior.fit(labels, organs, images)
        return self

    def surprise(self, label: Volume, organs: Mapping[str, int], image: Volume | None = None) -> list[Surprise]:
        """Return what every prior says of a mask, most surprising first.

        Without the image, priors that need it (see `Prior.needs_image`) are not asked.
        """
        asked = [prior for prior in self.priors.values() if image is not None or not prior.needs_image]
        said = [surprise for prior in asked for surprise in prior.surprise(label, organs, image)]
        return sorted(said, key=lambda surprise: surprise.p_value)

    def save(self, path: str | Path) -> Path:
        """Write what was learnt as JSON; an existing file is replaced at once."""
        content = {"format": FORMAT, "priors": {name: prior.to_json() for name, prior in self.priors.items()}}
        return write_json(content, path)

    @classmethod
    def load(cls, path: str | Path) -> "PriorSet":
        """Read fitted priors.

        Raises:
            ValueError: naming the file, if it is missing, is no JSON, or holds no priors of ours.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
            return cls([PRIORS[name].from_json(learnt) for name, learnt in content["priors"].items()])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: holds no usable priors ({error!r}); adapt again") from error
