"""Which prediction belongs to which label and image."""

from pathlib import Path

from medfm3d.volumes import VolumeError, find_volumes, output_name
from medfm3d.volumes.paths import dicom_labels_suffix


def case_name(path: str | Path) -> str:
    """Return the case that a volume belongs to: its file name without suffix and without nnU-Net's ``_0000``."""
    return output_name(path).removesuffix("_0000")


def list_cases(folder: str | Path) -> dict[str, Path]:
    """Return the volumes of a folder by case name, sorted.

    Raises:
        VolumeError: if the folder does not exist, holds no volume, or holds two of one case.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VolumeError(f"{folder}: no such folder; name a folder of volumes")
    cases: dict[str, Path] = {}
    for path in find_volumes(folder):
        name = case_name(path)
        if name in cases:
            raise VolumeError(f"{path}: {cases[name].name} is of the same case {name}; keep one of them")
        cases[name] = path
    if not cases:
        if any(dicom_labels_suffix(path) for path in folder.iterdir()):
            raise VolumeError(
                f"{folder}: holds DICOM outlines, which have no grid of their own; turn each into a label map first "
                "(medfm3d convert)"
            )
        raise VolumeError(f"{folder}: holds no volume; give a folder of NIfTI, NRRD or MetaImage files")
    return cases


def list_predictions(folder: str | Path) -> dict[str, Path]:
    """Return the masks of a folder by case name; probabilities and uncertainty that lie beside a mask are left out.

    Raises:
        VolumeError: as `list_cases`.
    """
    cases = list_cases(folder)
    stems = tuple(f"{output_name(path)}_" for path in cases.values())
    beside = ("_probability", "_uncertainty")
    return {name: path for name, path in cases.items() if not (name.endswith(beside) and name.startswith(stems))}


def pair_cases(predictions: dict[str, Path], labels: dict[str, Path]) -> tuple[list[str], list[str]]:
    """Return the cases that have both a prediction and a label, and those that have a label alone.

    Raises:
        VolumeError: if a prediction has no label.
    """
    alone = [path for name, path in predictions.items() if name not in labels]
    if alone:
        names = ", ".join(path.name for path in alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
        raise VolumeError(
            f"{alone[0].parent}: {names} without a label map of the same name in {next(iter(labels.values())).parent}; "
            "add the label maps or take the masks out"
        )
    return list(predictions), [name for name in labels if name not in predictions]
