"""The peer SwinUNETR of MONAI, trained from scratch on the CPU within a budget, by the recipe of MONAI's tutorial."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import SwinUNETR
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    Invertd,
    NormalizeIntensityd,
    Orientationd,
    RandCropByPosNegLabeld,
    RandShiftIntensityd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
)

from fewshot_benchmark.budget import Budget
from fewshot_benchmark.clock import cpu_seconds
from medfm3d.adaptation import AdaptationPlan, ChannelsToLabelIds, LabelIdsToChannels
from medfm3d.cohorts import Case
from medfm3d.volumes import LoadVolumed, SaveVolumed

FEATURE_SIZE = 24
LEARNING_RATE = 1e-4
WEIGHT_DECAY = 1e-5
WINDOWS = 2  # cut from one case for a step; MONAI's tutorial cuts 4, nnU-Net's batch here is 2
LARGEST_SIDE = 96
SIDE_MULTIPLE = 32
CT_WINDOW_HU = (-175.0, 250.0)


class SwinUnetr:
    """MONAI's SwinUNETR (Hatamizadeh et al. 2022) with feature size 24.

    As in MONAI's tutorial on BTCV: Dice and cross-entropy, AdamW at 1e-4, windows around organs and background in equal
    parts, shifted intensities, windows that overlap by half. Flips and rotations by 90 degrees are left out: they would
    turn left organs into right ones.

    Args:
        plan: spacing and organs, as medfm3d plans them.
        sizes_mm: extent of each support scan along the axes of RAS.
        seed: of its random draws.
        budget_s: CPU seconds for reading and training.
    """

    def __init__(self, plan: AdaptationPlan, sizes_mm: Sequence[Sequence[float]], seed: int, budget_s: float) -> None:
        self.plan, self.seed, self.budget_s = plan, seed, budget_s
        voxels = np.median(np.asarray(sizes_mm), axis=0) / plan.spacing_mm
        sides = np.ceil(voxels / SIDE_MULTIPLE) * SIDE_MULTIPLE
        self.window = tuple(int(side) for side in np.clip(sides, 2 * SIDE_MULTIPLE, LARGEST_SIDE))
        self.image_transform = Compose(
            [
                LoadVolumed("image"),
                Orientationd("image", axcodes="RAS", labels=None),
                Spacingd("image", pixdim=plan.spacing_mm, mode="bilinear"),
                ScaleIntensityRanged("image", *CT_WINDOW_HU, 0.0, 1.0, clip=True)
                if plan.modality == "CT"
                else NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            ]
        )

    def adapt(self, support: Sequence[Case]) -> dict[str, Any]:
        """Train on the support set; returns what was done."""
        budget = Budget(self.budget_s, cpu_seconds())
        monai.utils.set_determinism(self.seed)
        read = Compose(
            [
                self.image_transform,
                LoadVolumed("label", label=True),
                Orientationd("label", axcodes="RAS", labels=None),
                Spacingd("label", pixdim=self.plan.spacing_mm, mode="nearest"),
                LabelIdsToChannels("label", self.plan.label_ids),
                SpatialPadd(["image", "label"], self.window),
            ]
        )
        cut = Compose(
            [
                RandCropByPosNegLabeld(["image", "label"], "label", self.window, pos=1, neg=1, num_samples=WINDOWS),
                RandShiftIntensityd("image", offsets=0.1, prob=0.5),
            ]
        ).set_random_state(self.seed)
        cases = [read({"image": str(case.image), "label": str(case.label)}) for case in support]
        self.network = SwinUNETR(in_channels=1, out_channels=1 + len(self.plan.organs), feature_size=FEATURE_SIZE)
        optimizer = torch.optim.AdamW(self.network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
        order = np.random.default_rng(self.seed)

        def iterate() -> None:
            windows = cut(cases[order.integers(len(cases))])
            image = torch.stack([window["image"].as_tensor() for window in windows])
            label = torch.stack([window["label"].as_tensor() for window in windows])
            optimizer.zero_grad()
            loss_function(self.network(image), label).backward()
            optimizer.step()

        # MONAI's scripts warm up first and then lower the rate along a cosine; here the measured steps warm up.
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE / 10
        self.network.train()
        measured, iteration_s = budget.measure(iterate)
        left = budget.iterations_left(iteration_s)
        for number in range(left):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 + np.cos(np.pi * number / left)) / 2
            iterate()
        return {
            "trained_parameters": sum(weight.numel() for weight in self.network.parameters()),
            "iterations": measured + left,
            "iteration_cpu_s": iteration_s,
            "patch_size": list(self.window),
            "batch_size": WINDOWS,
            "spacing_mm": list(self.plan.spacing_mm),
        }

    def segment(self, cases: Sequence[Case], output: Path) -> None:
        """Segment by windows that overlap by half; masks are on the scans' own grids."""
        inferer = SlidingWindowInferer(self.window, sw_batch_size=1, overlap=0.5, mode="gaussian")
        back = Compose(
            [
                Activationsd("pred", softmax=True),
                Invertd("pred", self.image_transform, "image", nearest_interp=False, to_tensor=True),
                AsDiscreted("pred", argmax=True),
                ChannelsToLabelIds("pred", self.plan.label_ids),
                SaveVolumed("pred", output_dir=str(output), output_ext=".nii.gz", output_postfix="", dtype="uint16"),
            ]
        )
        self.network.eval()
        with torch.no_grad():
            for case in cases:
                scan = self.image_transform({"image": str(case.image)})
                scan["pred"] = inferer(scan["image"][None], self.network)[0]
                back(scan)
