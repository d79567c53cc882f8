"""A cohort of phantoms on disk, in the layout of the Medical Segmentation Decathlon."""

import json
import tempfile
from pathlib import Path

from medfm3d.cohorts.phantom.organ_tables import PHANTOM_ORGANS
from medfm3d.cohorts.phantom.phantom import AbdominalPhantom
from medfm3d.volumes import write_volume


def write_phantom_cohort(
    folder: str | Path,
    *,
    cases: int,
    seed: int = 0,
    shape: tuple[int, int, int] = (96, 96, 96),
    spacing_mm: float = 3.0,
    labelled: int | None = None,
) -> Path:
    """Write a cohort of phantoms: imagesTr, labelsTr and a dataset.json that calls it synthetic.

    Case n has the seed ``seed + n``. The cohort is written under a temporary name beside its place and moved when it is
    complete.

    Args:
        folder: where the cohort shall lie; must not exist.
        cases: how many, 1 to 1000.
        seed: of the first case.
        shape: voxels of each case.
        spacing_mm: voxel size.
        labelled: how many cases have a label map, the first ones; the others lie in imagesTs. All, if left out.

    Returns:
        The folder.

    Raises:
        ValueError: if the folder exists, or a number of cases is out of range.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder}: exists already: name a new folder, or remove this one first")
    if not 1 <= cases <= 1000:
        raise ValueError(f"cases {cases}: ask for 1 to 1000 cases")
    labelled = cases if labelled is None else labelled
    if not 0 <= labelled <= cases:
        raise ValueError(f"labelled {labelled}: ask for 0 to {cases} cases with a label map, of {cases} cases")
    phantom = AbdominalPhantom(shape, spacing_mm)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        whole = Path(temporary) / folder.name
        names = [f"phantom_{number:03d}.nii.gz" for number in range(cases)]
        for number, name in enumerate(names):
            image, label = phantom.generate(seed + number)
            write_volume(image, whole / ("imagesTr" if number < labelled else "imagesTs") / name)
            if number < labelled:
                write_volume(label, whole / "labelsTr" / name)
        (whole / "dataset.json").write_text(
            json.dumps(_dataset_json(names[:labelled], names[labelled:], seed), indent=2) + "\n"
        )
        whole.rename(folder)
    return folder


def _dataset_json(training: list[str], test: list[str], seed: int) -> dict[str, object]:
    return {
        "name": "Synthetic abdominal CT phantoms",
        "description": f"Synthetic CT drawn by a program (medfm3d phantom, seeds from {seed}): no patient, no scanner.",
        "reference": "medfm3d",
        "licence": "CC0-1.0",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background"} | {str(value): organ for organ, value in PHANTOM_ORGANS.items()},
        "numTraining": len(training),
        "numTest": len(test),
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in training],
        "test": [f"./imagesTs/{name}" for name in test],
    }
