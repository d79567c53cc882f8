"""Train the weights that bundles/promptable_segmentation ships.

    MEDFM3D_DATA=../shared/data python tools/train_promptable_weights.py --work /tmp/promptable

By the workflow `train` of that bundle, from the encoder and decoder that bundles/fewshot_organ_segmentation ships, with
simulated prompts on

- images synthesised from label maps: whole heads (SynthSeg's examples), phantoms and random shapes;
- phantoms as they are, and the CT and MR examples of TotalSegmentator with its own predictions as labels.

No label of MSD Hippocampus or OpenKBP head-and-neck is read, and none of their organs is learnt from other sources:
hippocampus and brain stem are merged into their surroundings, spinal cord and oesophagus are left unlabelled. (The
encoder was pretrained on images of those cohorts' development splits, without labels.) A run that was cut off goes on
where it stopped.
"""

import argparse
import json
import os
import platform
import resource
import shutil
from pathlib import Path
from typing import Any

from medfm3d.openmp import waiting_settings

os.environ.update(waiting_settings(os.environ))  # before torch is loaded

import torch

from medfm3d.cohorts.phantom import write_phantom_cohort
from medfm3d.cohorts.phantom.organ_tables import PHANTOM_ORGANS
from medfm3d.inference import bundle_template, run_workflow

PHANTOMS = 16
PHANTOM_SEED = 1000  # apart from those of the demonstration
# FreeSurfer's numbers: hippocampus to cerebral cortex of its side, brain stem to the ventral diencephalon on the left.
NOT_LEARNT = {"17": 3, "53": 42, "16": 28}
UNLABELLED = ("esophagus", "spinal_cord")  # of TotalSegmentator
UNNAMED = ("unnamed", "extra-cerebral", "background", "lesion", "vessel")
DATA = (
    "12 label maps of heads, SynthSeg's examples (Apache-2.0), hippocampus and brain stem merged into their "
    f"surroundings; {PHANTOMS} synthetic phantoms of medfm3d, seed {PHANTOM_SEED}; random shapes; one CT and one MR of "
    "TotalSegmentator's examples with its own predictions as labels (Apache-2.0), without oesophagus and spinal cord"
)


def training_cohorts(data: Path, work: Path) -> list[dict[str, Any]]:
    """Return the cohorts, as the bundle wants them."""
    phantom = work / "phantom"
    if not phantom.exists():
        write_phantom_cohort(phantom, cases=PHANTOMS, seed=PHANTOM_SEED)
    heads = json.loads((data / "brain_labels" / "labels.json").read_text(encoding="utf-8"))
    heads = {n: name for n, name in heads.items() if n not in NOT_LEARNT and not any(part in name for part in UNNAMED)}
    phantom_names = {str(number): name for name, number in PHANTOM_ORGANS.items()}
    found = [
        {"labels": str(data / "brain_labels"), "names": heads, "merged": NOT_LEARNT, "zoom": [0.7, 4.0], "weight": 3.0},
        {"weight": 1.5},
        {"labels": str(phantom / "labelsTr"), "names": phantom_names, "zoom": [0.4, 1.6], "weight": 0.5},
        {
            "labels": str(phantom / "labelsTr"),
            "images": str(phantom / "imagesTr"),
            "names": phantom_names,
            "modality": "CT",
            "zoom": [0.4, 1.6],
            "weight": 1.0,
        },
    ]
    folder = data / "totalsegmentator_example"
    tables = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    for label, image, table, modality in (
        ("example_seg", "example_ct_sm", "total", "CT"),
        ("example_seg_mr", "example_mr_sm", "total_mr", "MR"),
    ):
        names = {number: name for number, name in tables[table].items() if name not in UNLABELLED}
        common = {
            "labels": [str(folder / f"{label}.nii.gz")],
            "names": names,
            "merged": {number: 0 for number, name in tables[table].items() if name in UNLABELLED},
        }
        found.append({**common, "zoom": [0.4, 1.4], "weight": 0.5})
        scans = {"images": [str(folder / f"{image}.nii.gz")], "modality": modality}
        found.append({**common, **scans, "zoom": [0.4, 1.4], "weight": 1.5})
    return found


def main() -> None:
    """Train the network and put it into the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and phantoms")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = Path(os.environ.get("MEDFM3D_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    bundle = bundle_template("promptable_segmentation")
    overrides = {
        "cohorts": training_cohorts(data, arguments.work),
        "output_dir": str(arguments.work),
        "device": "cpu",
        "max_steps": arguments.steps,
        "steps_per_epoch": min(250, arguments.steps),
        "validation_windows": 24,
        "seed": arguments.seed,
        "progress_bar": False,
    }
    running = run_workflow(bundle, "train", overrides)
    card = json.loads((arguments.work / "model.json").read_text(encoding="utf-8"))
    card |= {
        "command": f"python tools/train_promptable_weights.py --work WORK --steps {arguments.steps} "
        f"--seed {arguments.seed}",
        "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores, torch {torch.__version__}",
        "data": DATA,
        "cpu_s": round(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])),
        "precision": str(running.parser.get_parsed_content("network_def").precision),
    }
    models = bundle / "models"
    models.mkdir(exist_ok=True)
    shutil.copyfile(arguments.work / "model.pt", models / "model.pt")
    (models / "model.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
