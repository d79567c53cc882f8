"""Learning to follow prompts: several rounds of simulated clicks on each window."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medfm3d.pretraining.schedule import decay_groups, warmup_cosine
from medfm3d.pretraining.windows import StepSampler
from medfm3d.segmentation.prompts.labelled_windows import SIDES, LabelledCohort, LabelledWindows
from medfm3d.segmentation.prompts.promptable_segmenter import PromptableSegmenter
from medfm3d.segmentation.prompts.simulated_prompts import as_target, corrected, draw_target, first_prompt
from medfm3d.volumes.organ_sides import unsided_organ_name

TRAINING, VALIDATION = 0, 1  # streams of random numbers
# Rounds of clicks before those that are learnt from: a network that sees first clicks alone does not learn to correct.
SKIPPED_ROUNDS = (0, 0, 0, 1, 2, 5)
FORGOTTEN_PREVIOUS = 0.3  # how often the last round's mask is left out


class PromptTraining(pl.LightningModule):
    """Prompts are simulated against what the network answers, in rounds, as in SAM (Kirillov et al. 2023, appendix A).

    On each window a few targets are drawn. The window's features are computed once; in each round the mask decoder
    answers for all targets, and each gets a click in its largest error. The loss is that of every learnt round, soft
    Dice and cross-entropy.

    Args:
        network: the network; what of it requires gradients is trained.
        names: known organ of each label number, for each cohort, as `organ_numbers` gives.
        unlabelled: of each cohort, whether label 0 means not outlined.
        total_steps: optimiser steps at which the learning rate reaches 0.
        learning_rate: peak learning rate of AdamW for the mask decoder.
        image_learning_rate: the same for the decoder of image features.
        targets: how many are drawn in a window.
        rounds: how many are learnt from.
        seed: of targets and prompts.
    """

    def __init__(
        self,
        network: nn.Module,
        names: Sequence[Mapping[int, int]],
        unlabelled: Sequence[bool],
        total_steps: int,
        learning_rate: float = 2e-3,
        image_learning_rate: float = 1e-3,
        targets: int = 3,
        rounds: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.names = [dict(numbers) for numbers in names]
        self.unlabelled = list(unlabelled)
        self.learning_rate = learning_rate
        self.image_learning_rate = image_learning_rate
        self.targets = targets
        self.rounds = rounds
        self.seed = seed
        self.schedule = warmup_cosine(max(1, total_steps // 20), total_steps)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """Return the loss of a window; None if it holds nothing to point at."""
        return self._logged_loss("train", batch, np.random.default_rng([self.seed, TRAINING, self.global_step]))

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """Return the loss of a validation window."""
        return self._logged_loss("val", batch, np.random.default_rng([self.seed, VALIDATION, batch_idx]))

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with a rate for each part, and their schedule by steps."""
        image = {id(weight) for weight in self.network.image_decoder.parameters()}
        groups = []
        for group in decay_groups(self.network, 1e-2):
            for rate, wanted in ((self.image_learning_rate, True), (self.learning_rate, False)):
                weights = [weight for weight in group["params"] if (id(weight) in image) is wanted]
                if weights:
                    groups.append({**group, "params": weights, "lr": rate})
        optimizer = torch.optim.AdamW(groups)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _logged_loss(self, name: str, batch: dict[str, Any], rng: np.random.Generator) -> Tensor | None:
        (image,), (label,), (cohort,) = batch["image"], batch["label"].cpu().numpy(), batch["cohort"].tolist()
        drawn = [draw_target(label, rng, unlabelled=self.unlabelled[cohort]) for _ in range(self.targets)]
        drawn = [target for target in drawn if target is not None]
        if not drawn:
            return None
        masks = [mask for mask, _ in drawn]
        organs = [self.names[cohort].get(number, 0) for _, number in drawn]
        losses, dice = self._rounds(image[None], masks, organs, rng)
        loss = torch.stack(losses).mean()
        self.log(f"{name}_loss", loss, prog_bar=True, batch_size=1)
        self.log(f"{name}_dice", dice, prog_bar=True, batch_size=1)
        return loss

    def _rounds(
        self, image: Tensor, masks: list[np.ndarray], organs: list[int], rng: np.random.Generator
    ) -> tuple[list[Tensor], float]:
        """Return the losses of the learnt rounds, and the mean Dice after the last."""
        window = image.shape[2:]
        target = torch.stack([as_target(mask) for mask in masks]).to(image.device)
        features = self.network.encode(image)
        prompts = [first_prompt(mask, organ, rng) for mask, organ in zip(masks, organs, strict=True)]
        skipped = int(rng.choice(SKIPPED_ROUNDS))
        before: list[Tensor | None] = [None] * len(masks)
        losses = []
        for number in range(skipped + self.rounds):
            maps = torch.stack([p.maps(window, b) for p, b in zip(prompts, before, strict=True)]).to(image.device)
            organ = torch.tensor([prompt.organ for prompt in prompts], device=image.device)
            with torch.set_grad_enabled(number >= skipped and torch.is_grad_enabled()):
                logits = self.network.decode(features, maps, organ)
            if number >= skipped:
                losses.append(prompt_loss(logits, target))
            answered = logits.detach().sigmoid()[:, 0].cpu()
            predicted = (answered > 0.5).numpy()
            prompts = [corrected(p, m, a, rng) for p, m, a in zip(prompts, masks, predicted, strict=True)]
            before = [None if rng.random() < FORGOTTEN_PREVIOUS else probability for probability in answered]
        overlap = [2 * (m & p).sum() / (m.sum() + p.sum()) for m, p in zip(masks, predicted, strict=True)]
        return losses, float(np.mean(overlap))


def prompt_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return soft Dice of each prompt, plus cross-entropy of all voxels; (B, 1, D, H, W) both."""
    probability = logits.sigmoid()
    space = (1, 2, 3, 4)
    overlap = (2 * (probability * target).sum(space) + 1) / (probability.sum(space) + target.sum(space) + 1)
    return 1 - overlap.mean() + F.binary_cross_entropy_with_logits(logits, target)


class PromptData(pl.LightningDataModule):
    """Endless windows of labelled cohorts, one a batch, since their sides differ; an epoch is a number of steps.

    Args:
        cohorts: cohorts, or mappings with the arguments of `LabelledCohort`.
        steps_per_epoch: windows of a training epoch.
        validation_windows: windows of a validation epoch; no validation if 0.
        sides: possible sides of a window.
        workers: processes that make windows, beside the training process.
        seed: of all windows.

    Raises:
        ValueError: if there is no cohort.
    """

    def __init__(
        self,
        cohorts: Sequence[LabelledCohort | Mapping[str, Any]],
        steps_per_epoch: int = 250,
        validation_windows: int = 0,
        sides: Sequence[int] = SIDES,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not cohorts:
            raise ValueError("no labelled cohort to learn from: name at least one")
        self.cohorts = [c if isinstance(c, LabelledCohort) else LabelledCohort(**c) for c in cohorts]
        self.steps_per_epoch = steps_per_epoch
        self.validation_windows = validation_windows
        self.sides = tuple(sides)
        self.workers = workers
        self.seed = seed

    @property
    def organs(self) -> list[str]:
        """Names of all cohorts' organs, each once, without sides, in order."""
        return sorted({unsided_organ_name(name) for cohort in self.cohorts for name in cohort.names.values()})

    @property
    def unlabelled(self) -> list[bool]:
        """Of each cohort, whether 0 means not outlined: not so in random shapes."""
        return [cohort.labels is not None for cohort in self.cohorts]

    def organ_numbers(self, network: PromptableSegmenter) -> list[dict[int, int]]:
        """Return, for each cohort, the network's number of each label number's organ."""
        return [
            {int(number): network.organ_names.number(name) for number, name in cohort.names.items()}
            for cohort in self.cohorts
        ]

    def train_dataloader(self) -> DataLoader:
        """Return the loader of training windows; it goes on where the trainer's step count stands."""
        trainer = self.trainer
        return self._loader(TRAINING, self.steps_per_epoch, lambda: trainer.global_step)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return the loader of validation windows, the same ones each time; no loader if there is no validation."""
        return self._loader(VALIDATION, self.validation_windows, lambda: 0) if self.validation_windows else []

    def _loader(self, stream: int, batches: int, due: Any) -> DataLoader:
        windows = LabelledWindows(self.cohorts, self.seed, stream, self.sides)
        return DataLoader(
            windows,
            batch_size=1,
            sampler=StepSampler(1, batches, due, self.trainer.global_rank, self.trainer.world_size),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )
