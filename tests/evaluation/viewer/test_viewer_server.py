"""What the viewer's server answers, and to whom."""

import http.client
import json
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from looking import ORGANS, ball_and_box, serving

from medfm3d.evaluation.viewer import ViewerServer, open_case, pair_scans, single_case
from medfm3d.evaluation.viewer import server as server_module
from medfm3d.volumes import Volume, VolumeError, read_label, read_volume, write_volume


def ask(viewer: ViewerServer, path: str, host: str | None = None, method: str = "GET") -> tuple[int, bytes, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{viewer.port}")
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


def described(viewer: ViewerServer, number: int) -> dict:
    status, content, _ = ask(viewer, f"{viewer.prefix}case/{number}/description.json")
    assert status == 200
    return json.loads(content)


def test_the_browser_gets_the_voxels_and_the_geometry_that_our_reader_reads(
    viewer: ViewerServer, look_folder: Path
) -> None:
    for number, name in enumerate(("a_ras.nii.gz", "b_lps.nrrd", "c_other.mha")):
        for what, folder, read in (("scan", "scans", read_volume), ("mask", "masks", read_label)):
            status, content, headers = ask(viewer, f"{viewer.prefix}case/{number}/{what}.nii")
            image, volume = nib.Nifti1Image.from_bytes(content), read(look_folder / folder / name)
            assert status == 200 and headers["Cache-Control"] == "no-store"
            np.testing.assert_array_equal(np.asanyarray(image.dataobj), volume.array)
            np.testing.assert_allclose(image.affine, volume.affine, atol=1e-5)


def test_volumes_are_those_of_the_whole_mask(viewer: ViewerServer, look_folder: Path) -> None:
    for number, name in enumerate(("a_ras.nii.gz", "b_lps.nrrd", "c_other.mha")):
        mask = read_label(look_folder / "masks" / name)
        rows = {row["organ"]: row for row in described(viewer, number)["organs"]}
        assert list(rows) == list(ORGANS)
        for organ, number_in_mask in ORGANS.items():
            voxels = np.count_nonzero(mask.array == number_in_mask)
            assert rows[organ]["voxels"] == voxels
            assert rows[organ]["volume_ml"] == pytest.approx(voxels * 1.5 * 1.25 * 2 / 1000, rel=1e-6)
            if voxels:
                assert mask.array[tuple(rows[organ]["centre_voxel"])] == number_in_mask
        assert rows["nowhere"]["centre_voxel"] is None and rows["left ball"]["voxels"] > 500


def test_ids_without_a_name_are_listed_too(look_folder: Path) -> None:
    case = pair_scans(look_folder / "scans", look_folder / "masks")[0]
    rows = open_case(case, {"left ball": 3}).description["organs"]
    assert [row["organ"] for row in rows] == ["left ball", "label 7"]


def test_numbers_that_browsers_cannot_hold_are_widened(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in (np.int8, np.int64, np.float32, np.uint16):
        scan = Volume(rng.integers(-100 if kind != np.uint16 else 0, 100, (5, 6, 7)).astype(kind), np.eye(4))
        path = write_volume(scan, tmp_path / f"{np.dtype(kind).name}.nii")
        server = ViewerServer([single_case(path, None)], {}, "t", port=0)
        with serving(server):
            _, content, _ = ask(server, f"{server.prefix}case/0/scan.nii")
            assert ask(server, f"{server.prefix}case/0/mask.nii")[0] == 404
        image = nib.Nifti1Image.from_bytes(content)
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), scan.array)
        assert image.get_data_dtype() in (np.int16, np.uint16, np.float32)


def test_a_dicom_series_is_shown_as_it_is_read(real_data: Path) -> None:
    folder = real_data / "dicom" / "hippocampus_crop"
    with serving(ViewerServer([single_case(folder, None)], {}, "t", port=0)) as server:
        _, content, _ = ask(server, f"{server.prefix}case/0/scan.nii")
    image, volume = nib.Nifti1Image.from_bytes(content), read_volume(folder)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), volume.array)
    np.testing.assert_allclose(image.affine, volume.affine, atol=1e-4)


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc/passwd",
        "case/0/../../../../etc/passwd",
        "case/0//etc/passwd",
        "case/-1/scan.nii",
        "case/99/scan.nii",
        "case/0/scan.nii.gz",
        "case/%30/scan.nii",
        "viewer.js/../../../pyproject.toml",
        "scans/a_ras.nii.gz",
    ],
)
def test_nothing_but_the_listed_cases_is_served(viewer: ViewerServer, path: str) -> None:
    status, content, _ = ask(viewer, viewer.prefix + path)
    assert status == 404 and content == b"nothing here\n"


def test_who_does_not_know_the_address_gets_nothing(viewer: ViewerServer) -> None:
    for path in ("/", "/case/0/scan.nii", "/x/case/0/scan.nii", viewer.prefix.rstrip("/")):
        assert ask(viewer, path)[0] == 404
    assert ask(viewer, viewer.prefix)[0] == 200
    other = ViewerServer([], {}, "t", port=0)
    other.free_port()
    assert other.prefix != viewer.prefix and len(viewer.prefix) > 12


def test_other_names_of_this_machine_are_refused(viewer: ViewerServer) -> None:
    for host in ("attacker.example", f"attacker.example:{viewer.port}", "127.0.0.1", "127.0.0.1:1", ""):
        status, content, _ = ask(viewer, f"{viewer.prefix}case/0/description.json", host=host or " ")
        assert status == 403 and b"a_ras" not in content
    assert ask(viewer, viewer.prefix, host=f"localhost:{viewer.port}")[0] == 200
    assert ask(viewer, viewer.prefix, method="POST")[0] == 501


def test_only_this_machine_can_reach_it(viewer: ViewerServer) -> None:
    assert viewer._server.server_address[0] == "127.0.0.1"
    assert viewer.url.startswith("http://127.0.0.1:")


def test_a_case_that_cannot_be_shown_says_why(viewer: ViewerServer) -> None:
    status, content, _ = ask(viewer, f"{viewer.prefix}case/3/description.json")
    assert status == 422 and b"d_broken.nii.gz: has 39 x 36 x 30 voxels, its image" in content


def test_a_taken_port_is_named(viewer: ViewerServer) -> None:
    with pytest.raises(OSError, match=f"port {viewer.port} is taken by another program; choose another with --port"):
        ViewerServer([], {}, "t", port=viewer.port)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ViewerServer([], {}, "t", port=port)
    server.free_port()
    ViewerServer([], {}, "t", port=port).free_port()


def test_what_a_browser_cannot_hold_is_reduced_and_says_so(look_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LARGEST_VOXELS", 8000)
    cases = pair_scans(look_folder / "scans", look_folder / "masks")[:1]
    with serving(ViewerServer(cases, ORGANS, "t", port=0)) as server:
        said = described(server, 0)
        scan = nib.Nifti1Image.from_bytes(ask(server, f"{server.prefix}case/0/scan.nii")[1])
        mask = nib.Nifti1Image.from_bytes(ask(server, f"{server.prefix}case/0/mask.nii")[1])
    assert said["shown"].startswith("reduced to ") and said["shape"] == [40, 36, 30]
    assert scan.shape == mask.shape and 4000 < np.prod(scan.shape) <= 8000
    full = ball_and_box()[1]
    assert said["organs"][0]["voxels"] == np.count_nonzero(full.array == 3)
    # The organ is where it was: its centre of mass stays within a coarse voxel.
    for number in (3, 7):
        places = [
            affine[:3, :3] @ np.argwhere(array == number).mean(axis=0) + affine[:3, 3]
            for array, affine in ((np.asanyarray(mask.dataobj), mask.affine), (full.array, full.affine))
        ]
        assert np.abs(places[0] - places[1]).max() < 0.5


def test_masks_without_scans_are_named(look_folder: Path, tmp_path: Path) -> None:
    scan, _ = ball_and_box()
    write_volume(scan, tmp_path / "scans" / "a_ras.nii.gz")
    with pytest.raises(VolumeError, match=r"b_lps\.nrrd.* without a scan of the same name"):
        pair_scans(tmp_path / "scans", look_folder / "masks")
    with pytest.raises(VolumeError, match="no such file"):
        single_case(tmp_path / "scans" / "a_ras.nii.gz", tmp_path / "none.nii.gz")
