"""Masks known by name, which may overlap, and the label map that they make."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medfm3d.volumes.dicom_labels.made_by import check_text
from medfm3d.volumes.errors import VolumeError, VolumeWarning
from medfm3d.volumes.organ_sides import plain_organ_name
from medfm3d.volumes.volume import Volume

MAX_LABEL = 65535


class OneByOne(Mapping[str, Volume]):
    """Masks that are made when they are asked for, and not kept: hundreds of a large scan fill no memory.

    Args:
        makers: what makes the mask of each name.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Volume]]) -> None:
        self._makers = dict(makers)

    def __getitem__(self, name: str) -> Volume:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True)
class NamedMasks:
    """What a DICOM SEG or RTSTRUCT file holds.

    Attributes:
        source: the file.
        masks: bool volumes by name, all on one grid, each made when it is asked for; they may overlap.
        values: the label value that each name has in the file, or its number there; where such numbers are no label
            values (1 to 65535), its place in the file.
    """

    source: Path
    masks: Mapping[str, Volume]
    values: Mapping[str, int]

    def label_map(self, organs: Mapping[str, int] | None = None) -> Volume:
        """Return a label map of some of the masks, on their grid.

        Where masks overlap, the organ that is named later counts, and a `VolumeWarning` says how many voxels do.

        Args:
            organs: label value of each organ, whose name may differ in case and punctuation; if left out, all masks,
                with the values of the file.

        Raises:
            VolumeError: if there is no mask, or none of an organ's name, or a label value is not from 1 to 65535.
        """
        organs = dict(self.values) if organs is None else organs
        if not organs or not self.masks:
            raise VolumeError(f"{self.source}: holds no outline; name the file that does")
        if beyond := {organ: value for organ, value in organs.items() if not 1 <= value <= MAX_LABEL}:
            raise VolumeError(f"{self.source}: label values must be from 1 to {MAX_LABEL}, got {beyond}; give others")
        names = {organ: self._name(organ) for organ in organs}
        labels, affine = None, None
        for organ, name in names.items():
            mask = self.masks[name]
            if labels is None:
                small = max(organs.values()) <= np.iinfo(np.uint8).max
                labels, affine = np.zeros(mask.shape, dtype=np.uint8 if small else np.uint16), mask.affine
            taken = int(np.count_nonzero(labels[mask.array]))
            if taken:
                warnings.warn(
                    f"{self.source}: {taken} voxels of {organ} are those of organs named before it, too; they count as "
                    f"{organ} alone",
                    VolumeWarning,
                    stacklevel=2,
                )
            labels[mask.array] = organs[organ]
        return Volume(labels, affine, self.source)

    def _name(self, organ: str) -> str:
        if organ in self.masks:
            return organ
        alike = [name for name in self.masks if plain_organ_name(name) == plain_organ_name(organ)]
        if len(alike) != 1:
            known = ", ".join(map(repr, self.masks))
            raise VolumeError(f"{self.source}: has no outline named {organ!r}, only {known}; name one of these")
        return alike[0]


def check_organs(labels: Volume, organs: Mapping[str, int]) -> None:
    """Check that a label map's values all have names, and that these fit into DICOM.

    Raises:
        VolumeError: if one has none, or a name is too long.
    """
    if not organs or min(organs.values()) < 1 or len(set(organs.values())) < len(organs):
        raise VolumeError(f"label values must be distinct numbers from 1, got {dict(organs)}; correct the organs")
    for organ in organs:
        check_text(organ, "an organ's name")
    small = labels.array.dtype in (np.uint8, np.uint16)  # which are quickly counted
    found = np.flatnonzero(np.bincount(labels.array.ravel())) if small else np.unique(labels.array)
    unnamed = sorted(set(found.tolist()) - {0, *organs.values()})
    if unnamed:
        raise VolumeError(
            f"{labels.source or 'label map'}: label values {unnamed[:10]} have no name, and a DICOM outline must have "
            "one; name these organs or erase them"
        )
