"""Pretrain the encoder and decoder that bundles/fewshot_organ_segmentation ships, from scans without labels.

    MEDFM3D_DATA=../shared/data python tools/pretrain_shipped_weights.py --work /tmp/pretraining

Reads the images of the development splits of MSD Hippocampus (MR) and OpenKBP head-and-neck (CT), and synthetic
phantoms (CT); no label and no case of a test split. First the encoder, by the bundle mae_vit_pretraining; then, behind
the frozen encoder, the decoder. A run that was cut off goes on where it stopped. Weights are stored in half precision.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see medfm3d/cli/__init__.py

import torch

from medfm3d.cohorts import read_cohort
from medfm3d.cohorts.phantom import write_phantom_cohort
from medfm3d.encoders import load_encoder, load_weights, read_header, save_encoder, save_weights
from medfm3d.inference import bundle_template, run_workflow
from medfm3d.segmentation import LightDecoder

WINDOW = [40, 56, 40]  # about one hippocampus crop; of CT at its own 3 to 5 mm, about a head
PHANTOMS = 40
PHANTOM_SEED = 1000  # apart from those of the demonstration


def unlabelled_cohorts(data: Path, work: Path) -> list[dict[str, Any]]:
    """Return the cohorts to pretrain on, as the pretraining bundle wants them."""
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


def provenance(path: Path, command: str, seconds: float) -> dict[str, Any]:
    """Return the header's provenance, with data, command and machine."""
    header = read_header(path)["provenance"]
    return {
        **header,
        "data": "images, no labels, of: MSD Hippocampus, 100 development cases (CC-BY-SA 4.0); OpenKBP head-and-neck "
        f"CT, 30 development cases (MIT); {PHANTOMS} synthetic phantoms of medfm3d, seed {PHANTOM_SEED}",
        "command": command,
        "duration_s": round(seconds),
        "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores, torch {torch.__version__}",
    }


def main() -> None:
    """Pretrain both parts and put them into the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and caches")
    parser.add_argument("--encoder-steps", type=int, default=6000)
    parser.add_argument("--decoder-steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = Path(os.environ.get("MEDFM3D_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    command = (
        f"python tools/pretrain_shipped_weights.py --work WORK --encoder-steps {arguments.encoder_steps} "
        f"--decoder-steps {arguments.decoder_steps} --seed {arguments.seed}"
    )
    models = bundle_template("fewshot_organ_segmentation") / "models"
    pretraining = bundle_template("mae_vit_pretraining")
    common = {
        "cohorts": unlabelled_cohorts(data, arguments.work),
        "cache_dir": str(arguments.work / "cache"),
        "window": WINDOW,
        "seed": arguments.seed,
        "validation_fraction": 0.1,
        "progress_bar": False,
    }

    started = time.perf_counter()
    encoder_file = arguments.work / "mae" / "encoder.safetensors"
    if not encoder_file.exists():
        overrides = {
            "output_dir": str(arguments.work / "mae"),
            "batch_size": 16,
            "max_steps": arguments.encoder_steps,
            "picture_every_n_epochs": 4,
        }
        run_workflow(pretraining, "train", common | overrides)
    shipped = models / "encoder.safetensors"
    header = provenance(encoder_file, command, time.perf_counter() - started)
    save_encoder(load_encoder(encoder_file), shipped, name="vit_tiny", provenance=header, dtype=torch.float16)

    started = time.perf_counter()
    decoder_file = arguments.work / "dense" / "decoder.safetensors"
    overrides = {
        "output_dir": str(arguments.work / "dense"),
        "encoder_file": str(shipped),
        "decoder_file": str(decoder_file),
        "precision": "bf16-mixed",
        "max_steps": arguments.decoder_steps,
    }
    if not decoder_file.exists():
        run_workflow(pretraining, ("train", "train_decoder"), common | overrides)
    encoder = load_encoder(shipped)
    decoder = LightDecoder(encoder.channels, encoder.strides)
    load_weights(decoder, decoder_file)
    header = provenance(decoder_file, command, time.perf_counter() - started)
    save_weights(
        decoder,
        models / "decoder.safetensors",
        architecture="light_decoder",
        provenance=header,
        dtype=torch.float16,
    )


if __name__ == "__main__":
    main()
