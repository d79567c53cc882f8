"""A real MONAI Label server, started by `medfm3d serve`, asked what Slicer asks, by MONAI Label's own client."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk
import torch

from medfm3d.cohorts import read_cohort
from medfm3d.inference import bundle_template, run_workflow
from medfm3d.segmentation.prompts import Prompt, PromptSession, first_click, load_promptable
from medfm3d.volumes import Volume, check_same_grid, read_label, read_volume, reorient, write_volume
from medfm3d.volumes.itk_files import to_itk

pytest.importorskip("monailabel", reason="MONAI Label is not installed: pip install '.[label]'")
pytestmark = [pytest.mark.slow]

with contextlib.suppress(ImportError):  # its module cgi is gone from Python 3.13
    from monailabel.client import MONAILabelClient

AS_SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8"}
PROMPTABLE = "promptable_segmentation"
PATIENCE_S = 400  # on a machine that does other things too


class Server:
    """A server on scans of the small cohort, with an adapted bundle and one for which nothing is outlined yet."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.scans, self.log = folder, folder / "my scans", folder / "server.log"
        self.adapted, self.fresh = folder / "cube_ball", folder / "my scans_medfm3d" / "bundles" / "fresh"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [Path(sys.executable).with_name("medfm3d"), "serve", "--studies", self.scans, "--port", self.port]
        command += ["--bundles", f"{self.adapted},{PROMPTABLE}", "--organs", "cube=2,ball=5", "--name", "fresh"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                list(map(str, command)), cwd=self.folder, env=environment, stdout=file, stderr=file
            )
        self.wait("it answers", self.answers)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-5000:]
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{self.url}/info/", timeout=PATIENCE_S).ok
        return False

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < until, f"waited in vain until {what}\n{self.log.read_text()[-5000:]}"
            time.sleep(0.5)

    def client(self, name: str = "annotator") -> "MONAILabelClient":
        return MONAILabelClient(self.url, tmpdir=str(self.folder), client_id=name)

    def mask(self, model: str, scan: str, **options: object) -> tuple[Volume, dict]:
        file, result = self.client().infer(model, scan, dict(AS_SLICER), **options)
        return read_label(file), result

    def train(self, model: str, steps: int) -> dict:
        self.client().train_start(model, {"device": "cpu", "steps": steps})
        self.wait("training ends", lambda: self.client().train_status()["status"] not in ("SUBMITTED", "RUNNING"))
        return self.client().train_status()

    def start_long_training(self) -> None:
        progress = self.adapted.with_name(".cube_ball.progress.json")
        progress.unlink(missing_ok=True)
        self.client().train_start("cube_ball", {"device": "cpu", "steps": 100_000})
        self.wait("it trains", lambda: progress.exists() and self.adapted.with_name(".cube_ball.new").exists())


@pytest.fixture(scope="module")
def server(adapted: Path, small_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("serve"))
    shutil.copytree(adapted, running.adapted)
    shutil.copytree(small_cohort / "imagesTr", running.scans)
    (running.scans / "broken.nii.gz").write_bytes((running.scans / "case_0.nii.gz").read_bytes()[:300])
    running.start()
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait(timeout=60)


def expected(bundle: Path, scan: Path, folder: Path) -> Volume:
    """The mask of `medfm3d segment`."""
    run_workflow(
        bundle, "inference", {"datalist": [str(scan)], "output_dir": str(folder), "device": torch.device("cpu")}
    )
    return read_label(folder / scan.name)


def shown_in_slicer(mask: Volume, label_names: dict[str, int]) -> dict[str, np.ndarray]:
    """Segments as Slicer's module makes them: names by their numbers, the first of which is label 1 and so on."""
    names = [name for name, _ in sorted(label_names.items(), key=lambda item: item[1])]
    return {name: mask.array == place for place, name in enumerate(names, start=1)}


def seg_nrrd(path: Path, label: Volume, names: dict[int, str]) -> Path:
    image = to_itk(label)
    for index, (value, name) in enumerate(names.items()):
        image.SetMetaData(f"Segment{index}_Name", name)
        image.SetMetaData(f"Segment{index}_LabelValue", str(value))
        image.SetMetaData(f"Segment{index}_Layer", "0")
    sitk.WriteImage(image, str(path))
    return path


def test_it_says_what_to_enter_in_slicer(server: Server) -> None:
    info, said = server.client().info(), server.log.read_text()
    assert server.url in said and "model cube_ball (cube, ball), button Run" in said and "not trained yet" in said
    assert info["models"]["cube_ball"]["labels"] == info["models"]["fresh"]["labels"] == {"cube": 2, "ball": 5}
    assert info["models"]["fresh"]["type"] == "segmentation" and set(info["trainers"]) == {"cube_ball", "fresh"}
    assert list(info["strategies"]) == ["most_helpful", "random", "first"]
    assert info["datastore"] == {"total": 7, "completed": 0, "label_tags": {}}
    assert not server.client().auth_enabled()


def test_pages_from_elsewhere_are_refused(server: Server) -> None:
    assert requests.get(f"{server.url}/info/", headers={"Origin": "https://elsewhere.org"}).status_code == 403
    assert requests.get(f"{server.url}/info/", headers={"Host": "elsewhere.org"}).status_code == 403
    assert requests.get(f"{server.url}/info/", headers={"Origin": "http://localhost:1"}).ok


def test_masks_are_those_of_segment_and_shown_by_name(server: Server, tmp_path: Path) -> None:
    for scan in (server.scans / "case_1.nii.gz", server.scans / "case_3.nii.gz"):  # LPS and AIL
        ours = expected(server.adapted, scan, tmp_path)
        mask, result = server.mask("cube_ball", scan.name.removesuffix(".nii.gz"))
        check_same_grid(ours, mask)
        np.testing.assert_array_equal(ours.array, mask.array)
        segments = shown_in_slicer(mask, result["label_names"])
        assert ours.array.any()
        for name, number in {"cube": 2, "ball": 5}.items():
            np.testing.assert_array_equal(segments[name], ours.array == number)


def test_scan_that_only_slicer_has_goes_by_a_session(server: Server, small_cohort: Path, tmp_path: Path) -> None:
    client, scan = server.client(), small_cohort / "imagesTr" / "case_4.nii.gz"
    session = client.create_session(str(scan))["session_id"]
    assert client.get_session(session)["image"].startswith(str(server.folder))  # not in the user's home
    mask, _ = server.mask("cube_ball", "none", session_id=session)
    np.testing.assert_array_equal(expected(server.adapted, scan, tmp_path).array, mask.array)
    client.remove_session(session)
    assert requests.get(f"{server.url}/session/{session}").status_code == 404


def test_clicks_and_boxes_reach_the_promptable_bundle(server: Server, small_cohort: Path) -> None:
    info = server.client().info()
    assert info["models"][PROMPTABLE]["type"] == "deepgrow"  # what Slicer's Smart Edit lists
    assert f"Smart Edit          model {PROMPTABLE}" in server.log.read_text()
    scan = read_volume(server.scans / "case_1.nii.gz")
    session = PromptSession(scan, load_promptable(bundle_template(PROMPTABLE)))
    cube = read_label(small_cohort / "labelsTr" / "case_1.nii.gz").array == 2
    inside, outside = list(map(int, first_click(cube).point)), [1, 1, 1]
    low, high = np.argwhere(cube).min(axis=0).tolist(), np.argwhere(cube).max(axis=0).tolist()
    roi = [*low[:2], *high[:2], low[2], high[2]]  # in the order of MONAI Label's SAM 2
    for sent, meant in (
        ({"label": "cube", "foreground": [inside], "background": []}, Prompt([inside], organ="cube")),
        ({"label": "cube", "foreground": [inside], "background": [outside]}, Prompt([inside], [outside], organ="cube")),
        ({"foreground": [], "background": [], "roi": roi}, Prompt(boxes=[[low, high]])),
    ):
        file, result = server.client().infer(PROMPTABLE, "case_1", {**AS_SLICER, **sent})
        answer = read_label(file)
        assert result["label_names"] == {"organ": 1} and answer.array.any()
        check_same_grid(scan, answer)
        np.testing.assert_array_equal(answer.array, session.answer(meant).array)
    reply = requests.post(f"{server.url}/infer/{PROMPTABLE}", params={"image": "case_1"}, data={"params": "{}"})
    assert reply.status_code == 422 and "nothing is pointed at" in reply.json()["detail"]


def test_prompts_do_not_disturb_a_model_without_them(server: Server) -> None:
    plain, _ = server.mask("cube_ball", "case_1")
    points = {"foreground": [[3, 3, 3]], "background": [], "label": "cube", "cube": [[1, 2, 3]], **AS_SLICER}
    prompted, _ = server.client().infer("cube_ball", "case_1", points)
    np.testing.assert_array_equal(plain.array, read_label(prompted).array)


@pytest.mark.parametrize(
    ("model", "scan", "status", "reason"),
    [
        ("cube_ball", "broken", 422, "broken.nii.gz"),
        ("cube_ball", "case_77", 404, "no such scan"),
        ("fresh", "case_1", 409, "press Submit Label"),
    ],
)
def test_what_cannot_be_segmented_is_said(server: Server, model: str, scan: str, status: int, reason: str) -> None:
    answer = requests.post(f"{server.url}/infer/{model}?image={scan}", data={"params": "{}"})
    assert answer.status_code == status and reason in answer.json()["detail"]


def test_two_annotators_at_once_get_their_own_masks(server: Server, tmp_path: Path) -> None:
    scans, masks = ("case_2", "case_5"), {}
    asked = [threading.Thread(target=lambda n=n: masks.update({n: server.mask("cube_ball", n)[0]})) for n in scans]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    for name in scans:
        ours = expected(server.adapted, server.scans / f"{name}.nii.gz", tmp_path)
        np.testing.assert_array_equal(ours.array, masks[name].array)


def test_labels_that_cannot_be_learnt_from_are_refused(server: Server, small_cohort: Path, tmp_path: Path) -> None:
    case = read_cohort(small_cohort).cases[0]
    other = {"label_info": [{"name": "Segment_1", "idx": 2}, {"name": "Segment_2", "idx": 5}]}
    with pytest.raises(Exception, match="no segment is named like an organ"):
        server.client().save_label(case.name, str(case.label), params=other | {})
    label = read_label(case.label)
    far = Volume(label.array, label.affine + np.array([[0, 0, 0, 500.0], [0] * 4, [0] * 4, [0] * 4]))
    elsewhere = str(write_volume(far, tmp_path / "far.nii.gz"))
    with pytest.raises(Exception, match="outside of the scan"):
        server.client().save_label(case.name, elsewhere)
    assert server.client().info()["datastore"]["completed"] == 0


def test_annotators_are_offered_different_scans(server: Server) -> None:
    done = requests.post(f"{server.url}/scoring/outlook?run_sync=true", json={}, timeout=PATIENCE_S).json()
    assert done["looked_at"] == 6 and "broken.nii.gz" in done["unusable"]["broken"]
    offered = [server.client(name).next_sample("most_helpful", {}) for name in ("one", "two")]
    assert offered[0]["id"] != offered[1]["id"] and all(one["id"].startswith("case_") for one in offered)
    assert Path(offered[0]["path"]).is_file()
    assert server.client().next_sample("first", {})["id"] and server.client().next_sample("random", {})["id"]


def test_training_learns_from_labels_of_all_kinds(server: Server, small_cohort: Path, tmp_path: Path) -> None:
    """Slicer's own numbers and names, a segmentation file on another grid, the bundle's numbers."""
    cases, client = read_cohort(small_cohort).cases, server.client()
    label = read_label(cases[0].label)
    swapped = Volume(np.select([label.array == 5, label.array == 2], [1, 2]).astype(np.uint8), label.affine)
    info = [{"name": "background", "idx": 1}, {"name": "Ball", "idx": 2}, {"name": "cube", "idx": 3}]
    file = write_volume(swapped, tmp_path / "swapped.nrrd")
    client.save_label(cases[0].name, str(file), params={"label_info": info[1:]})
    turned = reorient(read_label(cases[1].label), "RAS")
    client.save_label(
        cases[1].name, str(seg_nrrd(tmp_path / "s.seg.nrrd", turned, {2: "cube", 5: "ball", 9: "tumour"}))
    )
    client.save_label(cases[2].name, str(cases[2].label))
    only_cube = Volume((read_label(cases[4].label).array == 2).astype(np.uint8), read_label(cases[4].label).affine)
    client.save_label(
        cases[4].name,
        str(write_volume(only_cube, tmp_path / "cube.nii.gz")),
        params={"label_info": [{"name": "cube", "idx": 1}]},
    )
    assert client.info()["datastore"]["completed"] == 4
    ended = server.train("fresh", steps=60)
    said = "\n".join(ended["details"])
    assert ended["status"] == "DONE", said
    log = requests.get(f"{server.url}/logs/?lines=400&html=false").text
    assert "case_4: left out, since ball is not drawn in it" in log and "tumour is no organ" in log
    assert "case_1: was drawn on another grid" in log and "step 60 of 60" in said
    stats = client.info()["train_stats"]["fresh"]
    assert (stats["epoch"], stats["total_epochs"]) == (60, 60) and stats["total_time"]
    card = json.loads((server.fresh / "models" / "segmenter.json").read_text())
    assert card["support"] == ["case_0", "case_1", "case_2"] and not (server.fresh / "history").exists()
    # Used at once, without restart, and it has learnt which organ is which.
    mask, _ = server.mask("fresh", "case_5")
    np.testing.assert_array_equal(expected(server.fresh, server.scans / "case_5.nii.gz", tmp_path).array, mask.array)
    truth = read_label(cases[5].label).array
    for number in (2, 5):
        both = ((mask.array == number) & (truth == number)).sum()
        assert 2 * both > 0.4 * ((mask.array == number).sum() + (truth == number).sum())


def test_new_model_replaces_the_old_one_which_is_kept(server: Server, tmp_path: Path) -> None:
    old, _ = server.mask("cube_ball", "case_5")
    weights = (server.adapted / "models" / "model.pt").read_bytes()
    assert server.train("cube_ball", steps=40)["status"] == "DONE"
    new, _ = server.mask("cube_ball", "case_5")
    np.testing.assert_array_equal(expected(server.adapted, server.scans / "case_5.nii.gz", tmp_path).array, new.array)
    assert (old.array != new.array).any()
    kept = server.adapted / "history" / "0001"
    assert (kept / "models" / "model.pt").read_bytes() == weights
    np.testing.assert_array_equal(expected(kept, server.scans / "case_5.nii.gz", tmp_path / "kept").array, old.array)


def test_failed_training_says_why_and_changes_nothing(server: Server) -> None:
    before = (server.adapted / "models" / "model.pt").read_bytes()
    label = next((server.scans / "labels" / "final").glob("case_2*"))
    good = label.read_bytes()
    label.write_bytes(good[:200])
    ended = server.train("cube_ball", steps=2)
    label.write_bytes(good)
    assert ended["status"] == "ERROR" and label.name in ended["details"][-1]
    assert (server.adapted / "models" / "model.pt").read_bytes() == before
    assert not server.adapted.with_name(".cube_ball.new").exists()


def test_batch_goes_on_after_a_broken_scan(server: Server) -> None:
    assert requests.post(f"{server.url}/batch/infer/fresh?images=unlabeled", json={"device": "cpu"}).ok
    server.wait("batch ends", lambda: requests.get(f"{server.url}/batch/infer/").json()["status"] in ("DONE", "ERROR"))
    task = requests.get(f"{server.url}/batch/infer/").json()
    assert task["status"] == "DONE", task
    objects = server.client().datastore()["objects"]
    assert {name for name, one in objects.items() if "original" in one["labels"]} == {"case_3", "case_5"}
    saved = server.client().download_label("case_3", "original")
    np.testing.assert_array_equal(read_label(saved).array, server.mask("fresh", "case_3")[0].array)


def test_stopped_and_killed_trainings_leave_the_model(server: Server) -> None:
    before = (server.adapted / "models" / "model.pt").read_bytes()
    server.start_long_training()
    assert server.client().train_stop()["status"] == "STOPPED"
    server.wait("it stopped", lambda: not server.client().train_status(check_if_running=True))
    server.start_long_training()
    (training,) = children(server.process.pid)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(timeout=60)
    server.wait("the training notices", lambda: not alive(training))
    server.start()
    assert (server.adapted / "models" / "model.pt").read_bytes() == before
    assert server.mask("cube_ball", "case_5")[0].array.any()
    assert server.client().info()["datastore"]["completed"] == 4
    # What was cut off is no obstacle; and Ctrl-C ends server and training.
    server.start_long_training()
    (training,) = children(server.process.pid)
    server.process.send_signal(signal.SIGINT)
    server.process.wait(timeout=PATIENCE_S)
    server.wait("the training ends", lambda: not alive(training))
    assert (server.adapted / "models" / "model.pt").read_bytes() == before


def children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{pid}\n" in status.read_text():
                found.append(int(status.parent.name))
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False
