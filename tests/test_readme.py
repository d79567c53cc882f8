"""Every command of the README runs, in the order in which it stands there, and does what the README says."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from dicom_series import write_series
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Orientationd
from scipy.ndimage import gaussian_filter

from medfm3d.volumes import Volume, check_same_grid, read_label, read_volume, write_volume
from medfm3d.volumes.dicom_labels import read_dicom_labels

ORGANS = {"liver": 1, "spleen": 2}
NAMES = "abcdefg"
# What makes a command fast enough for a test, and nothing else about it different.
FASTER = {
    "bash tools/demo.sh": "--iterations 2 --k 2 --queries 2 --output demo_phantom --device cpu",
    "bash tools/demo.sh --data DIR": "--iterations 10 --k 2 --queries 2 --output demo_own --device cpu",
    "medfm3d adapt": "--iterations 60 --device cpu",
    "python -m monai.bundle run --config_file bundles": "--iterations 20 --device cpu",
}
SERVERS = {"medfm3d view": "--no-browser --port 0"}  # commands that go on until Ctrl-C
FASTER |= SERVERS
# Made sure of by other tests: installing by `test_the_package_brings_its_bundles` and the set-up of every test run,
# MONAI Label by tests/bundles/test_serve.py and test_monai_label.py; other people's weights, of which there is no file
# here, by tests/cli/test_cli_weights.py and tests/encoders/test_nnunet_export.py.
ELSEWHERE = ("pip install", "medfm3d serve", "medfm3d weights")


def commands_of(readme: Path) -> list[str]:
    """The lines of the README's bash blocks, continued lines joined, comments off."""
    blocks = re.findall(r"```bash\n(.*?)```", readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(shlex.split(line, comments=True)) for line in lines if line.strip()]


def json_of(readme: Path) -> dict:
    """The README's JSON block, an excerpt of a bundle's config."""
    (block,) = re.findall(r"```json\n(.*?)```", readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    return json.loads(f"{{{block}}}")


README = Path(__file__).resolve().parents[1] / "README.md"
COMMANDS = [command for command in commands_of(README) if not command.startswith(ELSEWHERE)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A folder with what the README speaks of: scans, outlines, and DIR, a cohort in Decathlon layout."""
    folder = tmp_path_factory.mktemp("work place")
    listed = []
    for seed, name in enumerate(NAMES):
        image, label = two_organs(seed)
        for place in ("scans", "DIR/imagesTr"):
            write_volume(image, folder / place / f"{name}.nii.gz")
        for place in ("outlines", "DIR/labelsTr"):
            write_volume(label, folder / place / f"{name}.nii.gz")
        if name in "ab":
            write_series(folder / "archive" / name, image.array, image.spacing_mm, origin_mm=(0, 0, 0))
        listed.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    labels = {"0": "background"} | {str(number): organ for organ, number in ORGANS.items()}
    content = {"name": "made up", "modality": {"0": "CT"}, "labels": labels, "training": listed, "test": []}
    (folder / "DIR" / "dataset.json").write_text(json.dumps(content))
    (folder / "bundles").symlink_to(repository / "bundles")
    return folder


def two_organs(seed: int) -> tuple[Volume, Volume]:
    """Scan and label of two balls, one bright and one less so, on a dark ground with a rim of air."""
    rng = np.random.default_rng(seed)
    shape = (36, 34, 30)
    grid = np.indices(shape).astype(float)
    label = np.zeros(shape, dtype=np.uint8)
    for number, centre, radius in ((1, (11, 17, 15), 6.5), (2, (26, 16, 14), 4.5)):
        place = np.array(centre) + rng.uniform(-2, 2, 3)
        label[((grid - place.reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < (radius + rng.uniform(-0.5, 0.5)) ** 2] = number
    hu = np.select([label == 1, label == 2], [120.0, 220.0], -60.0)
    hu[:2] = -1000
    image = gaussian_filter(hu, 0.5) + rng.normal(0, 10, shape)
    affine = np.diag([-2.0, -2.0, 2.5, 1.0])
    return Volume(image.astype(np.int16), affine), Volume(label, affine)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, workplace: Path) -> None:
    if command.startswith("bash tools/") and Path(sys.prefix) != README.parent / ".venv":
        pytest.skip(f"would set up {README.parent / '.venv'}; tests run from {sys.prefix}")
    prefix = max((start for start in FASTER if command.startswith(start)), key=len, default=None)
    line = command if prefix is None else f"{command} {FASTER[prefix]}"
    line = line.replace("bash tools/", f"bash {shlex.quote(str(README.parent))}/tools/")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    if command.startswith(tuple(SERVERS)):
        code, said = run_server(line, workplace, environment)
    else:
        done = subprocess.run(
            line, shell=True, executable="/bin/bash", cwd=workplace, env=environment, capture_output=True, text=True
        )
        code, said = done.returncode, done.stdout + done.stderr
    assert code == 0, said[-6000:]
    CHECKS[" ".join(command.split()[: 2 if command.startswith("medfm3d") else 5])](workplace, said)


def run_server(line: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Start a command that goes on until Ctrl-C, look at the page whose address it prints, and press Ctrl-C."""
    arguments = shlex.split(line)
    process = subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell lets what it starts in the background ignore Ctrl-C, tests among them, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        said = ""
        for line_said in process.stdout:  # libraries may warn before
            said += line_said
            if address := re.search(r"http://127\.0\.0\.1:\d+/\S*", line_said):
                with urlopen(address[0], timeout=60) as answer:
                    said += answer.read().decode()
                process.send_signal(signal.SIGINT)
        return process.wait(60), said
    finally:
        process.kill()
        process.wait()


def demo_of_phantoms(folder: Path, said: str) -> None:
    assert "Synthetic abdominal CT phantoms: adapting to 2 cases, to segment 2 others" in said
    page = (folder / "demo_phantom" / "report.html").read_text(encoding="utf-8")
    assert "bladder" in page and "<svg" in page


def demo_of_own(folder: Path, said: str) -> None:
    assert "made up: adapting to 2 cases, to segment 2 others" in said and "setting up" not in said
    assert len(list((folder / "demo_own" / "predictions").glob("*.nii.gz"))) == 2


def adapted(folder: Path, said: str) -> None:
    card = json.loads((folder / "liver_spleen" / "models" / "segmenter.json").read_text())
    assert card["support"] == list("abcde") and card["plan"]["modality"] == "CT" and card["method"] == "decoder"


def segmented(folder: Path, said: str) -> None:
    for name in NAMES:
        scan = read_volume(folder / "scans" / f"{name}.nii.gz")
        check_same_grid(scan, read_label(folder / f"masks/{name}.nii.gz"))
        assert f">{name} <small><a href=" in (folder / "masks" / "summary.html").read_text(encoding="utf-8")
        if (folder / "masks_with_priors").is_dir():  # the second of the README's commands of this name
            check_same_grid(scan, read_label(folder / f"masks_with_priors/{name}.nii.gz"))
            changes = folder / "masks_with_priors" / f"{name}_log_priors.json"
            assert isinstance(json.loads(changes.read_text()), list)

    if (folder / "plans").is_dir():
        for name in "ab":
            masks = read_dicom_labels(folder / "plans" / f"{name}.rtstruct.dcm", folder / "archive" / name)
            np.testing.assert_array_equal(masks.label_map().array, read_label(folder / f"masks/{name}.nii.gz").array)


def converted(folder: Path, said: str) -> None:
    assert "liver=1,spleen=2" in said
    assert (folder / "a.seg.dcm").is_file()
    if (folder / "a_again.nii.gz").is_file():
        again, first = (read_label(folder / name) for name in ("a_again.nii.gz", "masks/a.nii.gz"))
        np.testing.assert_array_equal(again.array, first.array)


def viewed(folder: Path, said: str) -> None:
    assert "7 cases at http://127.0.0.1:" in said and said.endswith("ended\n")
    assert all(f">{name}</button>" in said for name in NAMES)


def evaluated(folder: Path, said: str) -> None:
    assert float(re.search(r"mean Dice over organs: ([0-9.]+)", said).group(1)) > 0.7


def reported(folder: Path, said: str) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "spleen" in page and "data:image/png;base64" in page and 'data-viewer="embedded"' in page


def bundle_run(folder: Path, said: str) -> None:
    assert (folder / "my_bundle" / "models" / "model.pt").is_file()
    if (folder / "my_bundle" / "predictions").exists():
        raise AssertionError("masks went into the bundle")


CHECKS = {
    "bash tools/demo.sh": demo_of_phantoms,
    "bash tools/demo.sh --data DIR": demo_of_own,
    "medfm3d adapt": adapted,
    "medfm3d segment": segmented,
    "medfm3d view": viewed,
    "medfm3d convert": converted,
    "medfm3d evaluate": evaluated,
    "medfm3d report": reported,
    "python -m monai.bundle run --config_file": bundle_run,
}


@pytest.mark.slow
def test_the_package_brings_its_bundles(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), "."]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = tmp_path.glob("medfm3d-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for bundle in ("fewshot_organ_segmentation", "mae_vit_pretraining", "mae_swin_pretraining", "dino_pretraining"):
        assert f"medfm3d/_bundles/{bundle}/configs/train.json" in names
    assert "medfm3d/_bundles/fewshot_organ_segmentation/models/encoder.safetensors" in names
    assert "medfm3d/_data_manifests/msd_hippocampus.json" in names
    assert "medfm3d/evaluation/templates/report.html" in names
    assert {f"medfm3d/evaluation/viewer/{name}" for name in ("vendor/niivue.js", "NIIVUE_LICENSE.txt")} <= names
    assert "medfm3d/encoders/public_weights/catalogue/vista3d.json" in names
    assert "medfm3d/encoders/nnunet/trainers/medfm3d_vit_trainer.py" in names


def test_the_inferer_of_the_readme_serves_other_bundles() -> None:
    parser = ConfigParser(json_of(README))
    inferer = parser.get_parsed_content("inferer")
    affine = torch.diag(torch.tensor([-1.0, 2.0, 1.0, 1.0], dtype=torch.float64))
    meta = {"original_affine": affine, "spatial_shape": np.array([20, 30, 40])}
    stored = {"image": MetaTensor(torch.rand(1, 20, 30, 40), affine=affine, meta=meta)}
    batch = list_data_collate([Orientationd("image", axcodes="RAS", labels=None)(stored)])
    labels = inferer(batch["image"], lambda window: torch.cat([0.5 - window, window - 0.5], dim=1))
    assert torch.equal(labels.as_tensor()[0], (stored["image"].as_tensor() > 0.5).to(torch.uint8))
