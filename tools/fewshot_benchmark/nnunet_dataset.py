"""A support set as a raw dataset of nnU-Net, planned and preprocessed by nnU-Net itself."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medfm3d.cohorts import Case
from medfm3d.volumes import Volume, read_label, read_volume, reorient, write_json, write_volume

DATASET_ID = 1
DATASET = "Dataset001_support"
CONFIGURATION = "3d_fullres"
PLANS = "nnUNetPlans"


def set_folders(folder: Path) -> None:
    """Tell nnU-Net, in this process, where to keep its files, and to start no processes beside those it must have."""
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_compile": "false"}
    use_augmentation_processes(0)


def use_augmentation_processes(number: int) -> None:
    """Set how many processes nnU-Net starts to augment; with 0 it augments in its own, where its time is counted."""
    os.environ["nnUNet_n_proc_DA"] = str(number)  # noqa: SIM112 (nnU-Net spells it so)


def write_raw_dataset(folder: Path, support: Sequence[Case], organs: Mapping[str, int], modality: str) -> None:
    """Write the support set in nnU-Net's raw layout.

    All scans are brought to RAS first, since nnU-Net takes arrays as they lie in the file. Organs get the ids 1, 2, ...
    in their order, as nnU-Net asks for; all other labels become background.

    Args:
        folder: the folder given to `set_folders`.
        support: labelled cases.
        organs: name and id of each organ in the label files.
        modality: "CT" or "MR"; nnU-Net normalises CT by intensities of the whole support set.
    """
    root = folder / "raw" / DATASET
    for case in support:
        image, label = reorient(read_volume(case.image)), reorient(read_label(case.label))
        write_volume(image, root / "imagesTr" / f"{case.name}_0000.nii.gz")
        write_volume(consecutive_labels(label, organs), root / "labelsTr" / f"{case.name}.nii.gz")
    write_json(
        {
            "channel_names": {"0": modality},
            "labels": {"background": 0} | {name: number for number, name in enumerate(organs, start=1)},
            "numTraining": len(support),
            "file_ending": ".nii.gz",
        },
        root / "dataset.json",
    )


def plan_and_preprocess() -> None:
    """Let nnU-Net take its fingerprint of the dataset, plan its default configuration, and preprocess for it."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
        preprocess_dataset,
    )

    extract_fingerprint_dataset(DATASET_ID, num_processes=1, show_progress_bar=False)
    use_augmentation_processes(1)  # the planner sets torch's threads to this number, and torch refuses 0
    plan_experiment_dataset(DATASET_ID)
    use_augmentation_processes(0)
    preprocess_dataset(DATASET_ID, PLANS, (CONFIGURATION,), num_processes=[1], show_progress_bar=False)


def consecutive_labels(label: Volume, organs: Mapping[str, int]) -> Volume:
    """Return a label map in which the organs have the ids 1, 2, ... in their order and everything else is 0."""
    array = np.zeros(label.shape, dtype=np.uint8)
    for number, value in enumerate(organs.values(), start=1):
        array[label.array == value] = number
    return replace(label, array=array)


def original_labels(label: Volume, organs: Mapping[str, int]) -> Volume:
    """Undo `consecutive_labels`."""
    return replace(label, array=np.array([0, *organs.values()], dtype=np.uint16)[label.array])
