"""The pretraining bundle cut off by `kill -9`, and on several processes: the loss curve is that of one whole run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medfm3d.encoders import load_encoder, read_header
from medfm3d.inference import run_workflow

# Two epochs of four steps; checkpoints after steps 3 and 6, each in the midst of an epoch.
SETTINGS = {
    "device": "cpu", "window": [16, 16, 16], "decoder_dim": 24, "decoder_depth": 1, "max_steps": 8,
    "steps_per_epoch": 4, "checkpoint_every": 3, "validation_windows": 2, "picture_every_n_epochs": 2,
    "progress_bar": False, "trainer#log_every_n_steps": 1, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    return repository / "bundles" / "mae_vit_pretraining"


@pytest.fixture(scope="module")
def scans(scans_without_labels) -> Path:
    return scans_without_labels(4, (20, 18, 24))


@pytest.fixture(scope="module")
def uninterrupted(bundle: Path, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, batches of two, nothing in the way."""
    output = tmp_path_factory.mktemp("uninterrupted")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_workflow(bundle, "train", {**SETTINGS, "dataset_dir": str(scans), "output_dir": str(output)})
    torch.set_num_threads(threads)
    return output


def run(bundle: Path, scans: Path, output: Path, configs: tuple[str, ...] = ("train",), **options: object):
    """`python -m monai.bundle run`, with the folder of this file on Python's path."""
    options = {**SETTINGS, "dataset_dir": scans, "output_dir": output, **options}
    command = [
        sys.executable, "-m", "monai.bundle", "run",
        "--config_file", str([str(bundle / "configs" / f"{name}.json") for name in configs]),
        "--meta_file", str(bundle / "configs" / "metadata.json"), "--bundle_root", str(bundle),
    ]  # fmt: skip
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    python_path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    own = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": python_path}
    return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=1500)


def curve(output: Path, tag: str = "train_loss") -> dict[int, float]:
    events = EventAccumulator(str(output / "tensorboard"), {"scalars": 0}).Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


@pytest.mark.slow
def test_a_run_killed_within_an_epoch_ends_as_if_nothing_had_been(
    bundle: Path, scans: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    kill = {"callbacks#kill": {"_target_": "kill_callback.KillAt", "step": 7}}
    killed = run(bundle, scans, tmp_path, workers=1, **kill)
    assert killed.returncode == -signal.SIGKILL, killed.stdout[-2000:] + killed.stderr[-2000:]
    assert not (tmp_path / "encoder.safetensors").exists()
    resumed = run(bundle, scans, tmp_path, workers=1)
    assert resumed.returncode == 0, resumed.stdout[-2000:] + resumed.stderr[-4000:]
    for tag in ("train_loss", "lr", "val_loss"):
        whole, after = curve(uninterrupted, tag), curve(tmp_path, tag)
        assert {step: value for step, value in after.items() if step >= 6} == {
            step: value for step, value in whole.items() if step >= 6
        }
    state, other = (load_encoder(path / "encoder.safetensors").state_dict() for path in (uninterrupted, tmp_path))
    assert all(torch.equal(state[name], other[name]) for name in state)


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(bundle: Path, scans: Path, uninterrupted: Path, tmp_path: Path) -> None:
    several = {"devices": 2, "workers": 0, "batch_size": 1}
    replicated = run(bundle, scans, tmp_path, ("train", "multi_gpu_train"), **several, **{"trainer#max_steps": 6})
    assert replicated.returncode == 0, replicated.stdout[-2000:] + replicated.stderr[-4000:]
    assert "MEMBER: 2/2" in replicated.stdout + replicated.stderr
    sharded = run(bundle, scans, tmp_path, ("train", "fsdp_train"), **several)  # goes on where the other one ended
    assert sharded.returncode == 0, sharded.stdout[-2000:] + sharded.stderr[-4000:]
    assert "FSDPMaskedAutoencoder" in sharded.stdout
    for tag in ("train_loss", "val_loss", "lr"):
        assert curve(tmp_path, tag) == pytest.approx(curve(uninterrupted, tag), rel=1e-4)
    state, other = (load_encoder(path / "encoder.safetensors").state_dict() for path in (uninterrupted, tmp_path))
    for name, weight in state.items():
        torch.testing.assert_close(other[name], weight, atol=1e-4, rtol=1e-3, msg=name)
    assert read_header(tmp_path / "encoder.safetensors")["provenance"]["steps"] == 8
