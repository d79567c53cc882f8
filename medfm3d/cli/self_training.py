"""Scans without label maps as a first model outlines them, for a second model to learn from.

Self-training as in Xie et al., "Self-training with Noisy Student improves ImageNet classification" (CVPR 2020): the
teacher sees scans as they are, the student the same masks on augmented windows, and starts from the pretrained weights.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from medfm3d.cli.segment import run_segmentation
from medfm3d.cohorts import Cohort, CohortError
from medfm3d.volumes import VolumeWarning, output_name


@contextmanager
def pseudo_labels(
    cohort: Cohort, scans: int, output: Path, seed: int, device: str
) -> Iterator[tuple[Path, Callable[[], list[dict[str, str]]]]]:
    """Give a place for a first bundle, and a function that outlines scans with it; both vanish at the end.

    Args:
        cohort: labelled and unlabelled scans.
        scans: how many of the latter; all if there are fewer.
        output: where the second bundle will be: the folder beside it is used in the meantime.
        seed: of which scans are taken.
        device: where the bundle runs.

    Raises:
        CohortError: if no scan of the cohort is without a label map, or the first bundle finds all organs in none.
    """
    others = [case for case in cohort.cases if case.label is None]
    if not others:
        raise CohortError(
            f"{cohort.name}: every scan has a label map, and self-training learns from scans without; add some to the "
            "folder, or leave self-training out"
        )
    drawn = np.random.default_rng(seed).permutation(len(others))[:scans]
    taken = [others[index] for index in sorted(drawn)]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-first-", dir=output.parent) as folder:
        bundle, masks = Path(folder) / "bundle", Path(folder) / "masks"

        def outlined() -> list[dict[str, str]]:
            images = [case.image for case in taken]
            made = run_segmentation(bundle, images[0].parent, masks, inputs=images, device=device, seed=seed)
            for scan, error in made["failed"].items():
                warnings.warn(f"{scan}: not learnt from ({error})", VolumeWarning, stacklevel=2)
            # As a support case does, a scan must show every organ: where the first model missed one, so would the next.
            found = [
                {"name": output_name(case["scan"]), "image": case["scan"], "label": case["mask"]}
                for case in made["cases"]
                if case["mask"] and all(case["volumes_ml"].values())
            ]
            if not found:
                raise CohortError(
                    f"{cohort.name}: in none of {len(taken)} scans without label maps a first model finds all organs; "
                    "outline another scan, or leave self-training out"
                )
            return found

        yield bundle, outlined
