"""Labelled voxels of development cases, drawn alike from each organ and from around the organs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose, Orientationd
from torch import Tensor

from medfm3d.cohorts import Case, Cohort, list_manifests, read_cohort
from medfm3d.pretraining import PretrainingCohort
from medfm3d.volumes import LoadVolumed
from medfm3d.volumes.plain_tensor import plain_tensor

SPLIT = "development"
MARGIN = 8  # voxels around the organs from which background is drawn


@dataclass(frozen=True)
class LabelledVoxels:
    """Voxels of one case.

    Attributes:
        case: its name.
        image: (1, I, J, K) float32 in RAS, normalised as in pretraining.
        places: (N, 3) voxel coordinates.
        names: (N,) label values; 0 is background.
    """

    case: str
    image: Tensor
    places: Tensor
    names: np.ndarray


def development_cases(folder: Path) -> Cohort:
    """Return the labelled cases of a cohort's development split.

    Raises:
        ValueError: if no manifest tells which cases are for development: test cases must not be looked at.
    """
    name = read_cohort(folder).name
    manifest = next((m for m in list_manifests() if m.title == name and SPLIT in (m.splits or {})), None)
    if manifest is None:
        raise ValueError(f"{folder}: no manifest has a {SPLIT} split of {name}; test cases must not be looked at")
    cohort = read_cohort(folder, manifest).split(SPLIT)
    return cohort.select(case.name for case in cohort if case.label)


def draw_voxels(case: Case, cohort: Cohort, per_class: int, modality: str, seed: int) -> LabelledVoxels:
    """Draw equally many voxels of each organ that is outlined, and of background where all organs are.

    Background lies in the box of all organs, `MARGIN` voxels wider. A class with fewer voxels gives all it has.
    """
    load = Compose(
        [
            *PretrainingCohort(case.image, modality=modality).preprocessing(),
            LoadVolumed("label", label=True),
            Orientationd("label", axcodes="RAS"),
        ]
    )
    loaded = load({"image": str(case.image), "label": str(case.label)})
    label = plain_tensor(loaded["label"])[0].numpy()
    wanted = [value for organ, value in cohort.organs.items() if case.outlines(organ)]
    if len(wanted) == len(cohort.organs):
        wanted.insert(0, 0)
    inside = np.argwhere(label > 0)
    low, high = inside.min(axis=0) - MARGIN, inside.max(axis=0) + MARGIN
    rng = np.random.default_rng([seed, *case.name.encode()])
    places, names = [], []
    for value in wanted:
        found = np.argwhere(label == value)
        if value == 0:
            found = found[((found >= low) & (found <= high)).all(axis=1)]
        chosen = found[rng.permutation(len(found))[:per_class]]
        places.append(chosen)
        names.append(np.full(len(chosen), value))
    image = plain_tensor(torch.as_tensor(loaded["image"])).float()
    return LabelledVoxels(case.name, image, torch.from_numpy(np.concatenate(places)), np.concatenate(names))
