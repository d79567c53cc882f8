"""The peer nnU-Net v2 (Isensee et al. 2021): its own planner, trainer and predictor, on the CPU, within a budget."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewshot_benchmark import nnunet_dataset
from fewshot_benchmark.budget import Budget
from fewshot_benchmark.clock import cpu_seconds
from medfm3d.cohorts import Case
from medfm3d.volumes import read_label, read_volume, reorient, write_volume


class NnUNet:
    """nnU-Net trained on all support cases (its fold "all").

    Args:
        folder: where nnU-Net keeps its files.
        organs: name and id of each organ in the label files.
        modality: "CT" or "MR".
        seed: of its random draws.
        budget_s: CPU seconds for planning, preprocessing and training.
        mirroring: whether it mirrors when training and predicting, as by default. Mirrored in training, a left organ
            looks as a right one, so that for organs that have a side its authors provide a trainer that does not.
    """

    def __init__(
        self, folder: Path, organs: Mapping[str, int], modality: str, seed: int, budget_s: float, mirroring: bool = True
    ) -> None:
        self.folder, self.organs, self.modality = folder, organs, modality
        self.seed, self.budget_s, self.mirroring = seed, budget_s, mirroring
        nnunet_dataset.set_folders(folder)
        from fewshot_benchmark import nnunet_trainer  # it imports nnU-Net, which reads the folders set above

        self.trainer_class = nnunet_trainer.BudgetTrainer if mirroring else nnunet_trainer.BudgetTrainerNoMirroring

    def adapt(self, support: Sequence[Case]) -> dict[str, Any]:
        """Plan, preprocess and train; returns what was planned and done.

        Raises:
            RuntimeError: if the planner offers no 3D network for these scans.
        """
        started = cpu_seconds()
        done = self.folder / "prepared.json"
        spent = 0.0
        if done.is_file():  # an earlier process got as far as training
            spent = json.loads(done.read_text(encoding="utf-8"))["cpu_s"]
        else:
            nnunet_dataset.write_raw_dataset(self.folder, support, self.organs, self.modality)
            nnunet_dataset.plan_and_preprocess()
            done.write_text(json.dumps({"cpu_s": cpu_seconds() - started}), encoding="utf-8")
        prepared_s = cpu_seconds() - started
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)
        self.trainer = self._create_trainer()
        self.trainer.set_budget(Budget(self.budget_s, started, spent))
        self.trainer.run_training()
        configuration = self.trainer.configuration_manager
        return {
            "trained_parameters": sum(weight.numel() for weight in self.trainer.network.parameters()),
            "iterations": self.trainer.count_iterations(),
            "iteration_cpu_s": self.trainer.schedule["iteration_cpu_s"],
            "epochs": self.trainer.num_epochs,
            "preparation_cpu_s": spent or prepared_s,
            "training_cpu_s": self.trainer.trained_seconds(),
            "adaptation_cpu_s": (spent or prepared_s) + self.trainer.trained_seconds(),
            "resumed": self.trainer.resumed,
            "patch_size": [int(side) for side in configuration.patch_size],
            "batch_size": configuration.batch_size,
            "spacing_mm": [float(size) for size in configuration.spacing],
            "mirroring": self.mirroring,
        }

    def segment(self, cases: Sequence[Case], output: Path) -> None:
        """Predict with nnU-Net's defaults (overlap of half a patch, mirroring as trained); masks are in RAS."""
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        self.trainer.set_deep_supervision_enabled(False)
        self.trainer.network.eval()
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.manual_initialization(
            self.trainer.network,
            self.trainer.plans_manager,
            self.trainer.configuration_manager,
            [self.trainer.network.state_dict()],
            self.trainer.dataset_json,
            self.trainer.__class__.__name__,
            self.trainer.inference_allowed_mirroring_axes,
        )
        raw, numbered = self.folder / "query", self.folder / "predicted"
        numbered.mkdir(parents=True, exist_ok=True)
        for case in cases:
            scan = write_volume(reorient(read_volume(case.image)), raw / f"{case.name}_0000.nii.gz")
            predictor.predict_from_files_sequential([[str(scan)]], [str(numbered / case.name)])
            mask = nnunet_dataset.original_labels(read_label(numbered / f"{case.name}.nii.gz"), self.organs)
            write_volume(mask, output / f"{case.name}.nii.gz")

    def _create_trainer(self) -> Any:
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        root = self.folder / "preprocessed" / nnunet_dataset.DATASET
        plans = json.loads((root / f"{nnunet_dataset.PLANS}.json").read_text(encoding="utf-8"))
        if nnunet_dataset.CONFIGURATION not in PlansManager(plans).available_configurations:
            raise RuntimeError(f"{root}: nnU-Net planned no {nnunet_dataset.CONFIGURATION} for these scans")
        plans["continue_training"] = False  # what the trainer's constructor reads for its own log only
        dataset = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        return self.trainer_class(plans, nnunet_dataset.CONFIGURATION, "all", dataset, torch.device("cpu"))
