"""Pretrain the encoder and decoder that bundles/fewshot_organ_segmentation ships.

    MEDFM3D_DATA=../shared/data python tools/pretrain_shipped_weights.py --work /tmp/pretraining

The stages, each by a workflow of the bundle mae_vit_pretraining:

1. masked autoencoding of the encoder, and
2. dense in-painting of the decoder behind the frozen encoder, both on images without labels: the development splits of
   MSD Hippocampus (MR) and OpenKBP head-and-neck (CT), and synthetic phantoms (CT);
3. with --synthesis-steps, randomised synthesis: both go on together on images synthesised from label maps: whole heads,
   phantoms and random shapes. Hippocampus and brain stem are merged into their surroundings, since medfm3d is judged by
   them. Not part of the shipped weights: see docs/README.md of the bundle for what it gives and takes.

At the end the encoder's features of the images are measured, by which the method `auto` tells how far other scans are
from them; --only-statistics does this alone, with the weights that are there.

No label of a cohort that medfm3d is judged by, and no case of a test split, is read. Weights are stored in half
precision, from which the third stage starts. A run that was cut off goes on where it stopped.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

from medfm3d.openmp import waiting_settings

os.environ.update(waiting_settings(os.environ))  # before torch is loaded

import numpy as np
import torch

from medfm3d.adaptation import FeatureStatistics, measured_windows, write_statistics
from medfm3d.cohorts import read_cohort
from medfm3d.cohorts.phantom import write_phantom_cohort
from medfm3d.cohorts.phantom.anatomy import Anatomy, grid_axes
from medfm3d.encoders import file_sha256, load_encoder, load_weights, read_header, save_encoder, save_weights
from medfm3d.inference import bundle_template, run_workflow
from medfm3d.pretraining import PreparedVolumes, PretrainingCohort
from medfm3d.segmentation import LightDecoder
from medfm3d.volumes import Volume, write_volume

WINDOW = [40, 56, 40]  # about one hippocampus crop; of CT at its own 3 to 5 mm, about a head
PHANTOMS = 40
PHANTOM_SEED = 1000  # apart from those of the demonstration
TISSUE_SEED = 5000
TISSUE_SPACING_MM = 3.0
SCANS_MEASURED = 30  # of each cohort, for the statistics of features
# FreeSurfer's numbers: hippocampus to cerebral cortex of its side, brain stem to the ventral diencephalon on the left.
NOT_LEARNT = {"17": 3, "53": 42, "16": 28}
IMAGES = (
    "images, no labels, of: MSD Hippocampus, 100 development cases (CC-BY-SA 4.0); OpenKBP head-and-neck CT, 30 "
    f"development cases (MIT); {PHANTOMS} synthetic phantoms of medfm3d, seed {PHANTOM_SEED}"
)
LABEL_MAPS = (
    "label maps, no images: 12 heads of SynthSeg's examples (Apache-2.0), hippocampus and brain stem merged into their "
    f"surroundings; tissues of {PHANTOMS} synthetic phantoms of medfm3d, seed {TISSUE_SEED}; random shapes"
)


def unlabelled_cohorts(data: Path, work: Path) -> list[dict[str, Any]]:
    """Return the cohorts of images, as the pretraining bundle wants them."""
    found = []
    for folder, manifest, modality in (
        ("hippocampus", "msd_hippocampus", "MR"),
        ("headneck_ct", "openkbp_headneck", "CT"),
    ):
        cases = read_cohort(data / folder, manifest).split("development")
        found.append({"images": [str(case.image) for case in cases], "weight": 1.0, "modality": modality})
    phantom = work / "phantom"
    if not phantom.exists():
        write_phantom_cohort(phantom, cases=PHANTOMS, seed=PHANTOM_SEED)
    found.append({"images": str(phantom / "imagesTr"), "weight": 1.0, "modality": "CT"})
    return found


def label_map_cohorts(data: Path, work: Path) -> list[dict[str, Any]]:
    """Return the cohorts of label maps, as the pretraining bundle wants them."""
    folder = work / "phantom_tissues"
    axes = grid_axes((96, 96, 96), (TISSUE_SPACING_MM,) * 3)
    affine = np.diag([*(TISSUE_SPACING_MM,) * 3, 1.0])
    for number in range(PHANTOMS):
        file = folder / f"phantom_{number:03d}.nii.gz"
        if not file.exists():
            tissues = Anatomy(np.random.default_rng(TISSUE_SEED + number)).tissues(axes)
            write_volume(Volume(tissues, affine), file)
    return [
        {"labels": str(data / "brain_labels"), "merged": NOT_LEARNT, "zoom": [0.7, 4.0]},
        {"labels": str(folder), "zoom": [0.4, 1.6]},
        {"labels": None},
    ]


class Stages:
    """The three stages of one run.

    Args:
        data: folder of the real scans.
        work: folder for checkpoints and caches.
        arguments: the command line's steps and seed.
    """

    def __init__(self, data: Path, work: Path, arguments: argparse.Namespace) -> None:
        self.data = data
        self.work = work
        self.arguments = arguments
        self.bundle = bundle_template("mae_vit_pretraining")
        self.command = (
            f"python tools/pretrain_shipped_weights.py --work WORK --encoder-steps {arguments.encoder_steps} "
            f"--decoder-steps {arguments.decoder_steps} --synthesis-steps {arguments.synthesis_steps} "
            f"--seed {arguments.seed}"
        )
        self.common = {"window": WINDOW, "seed": arguments.seed, "progress_bar": False}

    def masked_autoencoder(self) -> Path:
        """Train the encoder; returns its file."""
        file = self.work / "mae" / "encoder.safetensors"
        if not file.exists():
            overrides = self._on_images() | {
                "output_dir": str(file.parent),
                "batch_size": 16,
                "max_steps": self.arguments.encoder_steps,
                "picture_every_n_epochs": 4,
            }
            run_workflow(self.bundle, "train", self.common | overrides)
        return file

    def inpainting(self, encoder_file: Path) -> Path:
        """Train the decoder behind the frozen encoder; returns its file."""
        file = self.work / "dense" / "decoder.safetensors"
        if not file.exists():
            overrides = self._on_images() | {
                "output_dir": str(file.parent),
                "encoder_file": str(encoder_file),
                "decoder_file": str(file),
                "precision": "bf16-mixed",
                "max_steps": self.arguments.decoder_steps,
            }
            run_workflow(self.bundle, ("train", "train_decoder"), self.common | overrides)
        return file

    def synthesis(self, encoder_file: Path, decoder_file: Path) -> tuple[Path, Path]:
        """Train both on synthesised images; returns their files."""
        folder = self.work / "synthesis"
        files = folder / "encoder.safetensors", folder / "decoder.safetensors"
        if not files[1].exists():
            overrides = {
                "output_dir": str(folder),
                "cohorts": label_map_cohorts(self.data, self.work),
                "encoder_start": str(encoder_file),
                "decoder_start": str(decoder_file),
                "precision": "bf16-mixed",
                "validation_windows": 24,
                "max_steps": self.arguments.synthesis_steps,
            }
            run_workflow(self.bundle, ("train", "train_synthesis"), self.common | overrides)
        return files

    def _on_images(self) -> dict[str, Any]:
        return {
            "cohorts": unlabelled_cohorts(self.data, self.work),
            "cache_dir": str(self.work / "cache"),
            "validation_fraction": 0.1,
        }


def measure_features(encoder_file: Path, cohorts: list[dict[str, Any]], cache: Path, seed: int) -> None:
    """Write the statistics of the encoder's features of the images, by modality, beside its weights."""
    encoder = load_encoder(encoder_file)
    windows: dict[str, list[torch.Tensor]] = {}
    for arguments in cohorts:
        cohort = PretrainingCohort(**arguments)
        prepared = PreparedVolumes(cohort, cohort.files()[:SCANS_MEASURED], cache)
        prepared.prepare()
        for number, entry in enumerate(prepared.entries()):
            rng = np.random.default_rng([seed, number])
            volume = torch.load(entry, weights_only=True)["image"]
            windows.setdefault(cohort.modality, []).append(measured_windows(volume, WINDOW, rng))
    statistics = {modality: FeatureStatistics.measure(encoder, scans) for modality, scans in windows.items()}
    made_by = {"data": IMAGES, "command": "python tools/pretrain_shipped_weights.py --work WORK --only-statistics"}
    write_statistics(encoder_file, statistics, made_by)


def ship(encoder_file: Path, decoder_file: Path, models: Path, provenance: dict[str, Any]) -> None:
    """Write both into the bundle, in half precision, with all that is known of how they came to be."""
    encoder = load_encoder(encoder_file)
    header = read_header(encoder_file)["provenance"] | provenance
    shipped = models / "encoder.safetensors"
    save_encoder(encoder, shipped, name="vit_tiny", provenance=header, dtype=torch.float16)
    decoder = LightDecoder(encoder.channels, encoder.strides)
    load_weights(decoder, decoder_file)
    header = read_header(decoder_file)["provenance"] | provenance | {"encoder_sha256": file_sha256(shipped)}
    save_weights(
        decoder, models / "decoder.safetensors", architecture="light_decoder", provenance=header, dtype=torch.float16
    )


def main() -> None:
    """Pretrain both parts and put them into the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and caches")
    parser.add_argument("--encoder-steps", type=int, default=6000)
    parser.add_argument("--decoder-steps", type=int, default=2500)
    parser.add_argument("--synthesis-steps", type=int, default=0)
    parser.add_argument("--only-statistics", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = Path(os.environ.get("MEDFM3D_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    started = time.perf_counter()
    stages = Stages(data, arguments.work, arguments)
    models = bundle_template("fewshot_organ_segmentation") / "models"
    shipped = models / "encoder.safetensors"
    if not arguments.only_statistics:
        provenance = {
            "command": stages.command,
            "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores, torch {torch.__version__}",
            "data": IMAGES,
        }
        encoder = stages.masked_autoencoder()
        decoder = stages.inpainting(encoder)
        ship(encoder, decoder, models, provenance | {"duration_s": round(time.perf_counter() - started)})
        if arguments.synthesis_steps:
            encoder, decoder = stages.synthesis(shipped, models / "decoder.safetensors")
            provenance["data"] += f"; then {LABEL_MAPS}"
            ship(encoder, decoder, models, provenance | {"duration_s": round(time.perf_counter() - started)})
    cohorts = unlabelled_cohorts(data, arguments.work)
    measure_features(shipped, cohorts, arguments.work / "cache", arguments.seed)


if __name__ == "__main__":
    main()
