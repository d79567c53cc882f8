"""An adapted bundle in MONAI Label's stock app, started as docs/slicer.md says."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import torch

from medfm3d.cohorts import read_cohort
from medfm3d.inference import run_workflow
from medfm3d.volumes import check_same_grid, read_label

pytest.importorskip("monailabel", reason="MONAI Label is not installed: pip install '.[label]'")
pytestmark = [pytest.mark.slow]


class Server:
    """A running server, its bundle and its studies."""

    def __init__(self, url: str, bundle: Path, studies: Path, log: Path) -> None:
        self.url, self.bundle, self.studies, self.log = url, bundle, studies, log

    def ask(self, method: str, path: str, **arguments: object) -> requests.Response:
        answer = requests.request(method, f"{self.url}/{path}", timeout=280, **arguments)
        assert answer.ok, answer.text[-500:] + self.log.read_text()[-5000:]
        return answer


@pytest.fixture(scope="module")
def server(
    adapted: Path, small_cohort: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("label")
    shutil.copytree(adapted, folder / "liver_spleen")
    shutil.copytree(small_cohort / "imagesTr", folder / "scans")
    text = (repository / "docs" / "slicer.md").read_text(encoding="utf-8")
    (shim,) = re.findall(r"```python\n(import sys, pydicom.*?)```", text, flags=re.DOTALL)
    (folder / "shim").mkdir()
    (folder / "shim" / "sitecustomize.py").write_text(shim)
    *prepare, start = re.findall(r"^(?:monailabel|mkdir apps|cp -r liver_spleen).*$", text, flags=re.MULTILINE)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "shim"),
        "OMP_NUM_THREADS": "1",
        "HOME": str(folder),  # its sessions and caches
    }
    for command in prepare:
        subprocess.run(command, shell=True, cwd=folder, env=environment, check=True, capture_output=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            f"exec {start} --host 127.0.0.1 --port {port}",
            shell=True,
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        running = Server(f"http://127.0.0.1:{port}", folder / "apps/monaibundle/model/liver_spleen", folder, log)
        try:
            wait_for(running, process)
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait(timeout=30)


def wait_for(server: Server, process: subprocess.Popen) -> None:
    for _ in range(240):
        assert process.poll() is None, server.log.read_text()[-5000:]
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{server.url}/info/", timeout=5).ok:
                return
        time.sleep(0.5)
    raise AssertionError("the server does not answer\n" + server.log.read_text()[-5000:])


def test_server_offers_the_organs(server: Server) -> None:
    info = server.ask("GET", "info/").json()
    assert info["models"]["liver_spleen"]["labels"] == {"cube": 2, "ball": 5}
    assert "liver_spleen" in info["trainers"]


def test_mask_is_that_of_segment(server: Server, adapted: Path, small_cohort: Path, tmp_path: Path) -> None:
    for case in (read_cohort(small_cohort).cases[n] for n in (1, 3)):  # LPS and AIL
        answer = server.ask("POST", f"infer/liver_spleen?image={case.name}&output=image", data={"params": "{}"})
        (tmp_path / "label.nii.gz").write_bytes(answer.content)
        values = {"datalist": [str(case.image)], "output_dir": str(tmp_path), "device": torch.device("cpu")}
        run_workflow(adapted, "inference", values)
        ours, theirs = read_label(tmp_path / case.image.name), read_label(tmp_path / "label.nii.gz")
        check_same_grid(ours, theirs)
        assert set(np.unique(theirs.array)) == {0, 2, 5}
        np.testing.assert_array_equal(ours.array, theirs.array)


def test_training_starts_from_the_bundle_and_replaces_its_weights(server: Server, small_cohort: Path) -> None:
    for case in read_cohort(small_cohort).cases[:3]:
        with case.label.open("rb") as file:
            server.ask("PUT", f"datastore/label?image={case.name}&tag=final", files={"label": file})
    weights = server.bundle / "models" / "model.pt"
    before = torch.load(weights, weights_only=True)
    request = {"max_epochs": 1, "device": "cpu", "val_split": 0.2}
    server.ask("POST", "train/liver_spleen?run_sync=true", json=request)
    after = torch.load(weights, weights_only=True)
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed and not any(key.startswith("encoder.") for key in changed)
    # One short epoch moves trained weights a little: from fresh ones they would differ about as much as they are large.
    key = "decoder.detail2.0.0.weight"
    assert (after[key] - before[key]).norm() < 0.5 * before[key].norm()
