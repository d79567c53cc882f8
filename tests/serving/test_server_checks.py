"""What keeps a server from starting is said in one line, with an exit code."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medfm3d.serving import ServerError, check_address, check_installed, find_studies
from medfm3d.serving.segments import slicer_names
from medfm3d.volumes import Volume, VolumeError, write_volume

pytest.importorskip("monailabel", reason="MONAI Label is not installed: pip install '.[label]'")


def a_scan(path: Path) -> Path:
    return write_volume(Volume(np.arange(27, dtype=np.float32).reshape(3, 3, 3), np.eye(4)), path)


def test_studies_are_scans_that_monai_label_offers(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nrrd", "c.mha"):
        a_scan(tmp_path / name)
    a_scan(tmp_path / "labels" / "final" / "a.nrrd")
    a_scan(tmp_path / "two_files.mhd")
    studies = find_studies(tmp_path)
    assert [path.name for path in studies.scans] == ["a.nrrd", "b.nii.gz", "c.mha"]
    assert [path.name for path in studies.others] == ["two_files.mhd"]


def test_folders_without_scans_are_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="no such folder"):
        find_studies(tmp_path / "absent")
    with pytest.raises(VolumeError, match="holds no scan"):
        find_studies(tmp_path)
    a_scan(tmp_path / "imagesTr" / "a.nii.gz")
    with pytest.raises(VolumeError, match="its subfolder imagesTr does: serve that"):
        find_studies(tmp_path)
    for name in ("a.nii.gz", "a.nrrd"):
        a_scan(tmp_path / name)
    with pytest.raises(VolumeError, match="several scans are named a"):
        find_studies(tmp_path)


@pytest.mark.parametrize(("denied", "fault"), [(os.R_OK | os.X_OK, "may not be read"), (os.W_OK, "keeps the labels")])
def test_permissions_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, denied: int, fault: str
) -> None:  # the tests may run as root, to whom everything is permitted
    a_scan(tmp_path / "a.nii.gz")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != denied)
    with pytest.raises(VolumeError, match=fault):
        find_studies(tmp_path)


def test_only_this_machine_can_be_listened_at() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 cannot be used"):
            check_address("127.0.0.1", port)
    check_address("localhost", port)
    for host in ("0.0.0.0", "192.168.0.5", "::"):
        with pytest.raises(ServerError, match=rf"ssh -N -L {port}:127.0.0.1:{port}"):
            check_address(host, port)


def test_monai_label_refuses_every_token_of_its_own_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason why no password is offered; if this fails, MONAI Label has mended it and the option may come."""
    import jwt
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from monailabel.endpoints.user import auth

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public = key.public_key().public_bytes(*encoding).decode()
    claims = {"preferred_username": "me", "realm_access": {"roles": ["monailabel-admin"]}}
    token = jwt.encode(claims, key, algorithm="RS256")
    assert jwt.decode(token, public, algorithms=["RS256"]) == claims
    monkeypatch.setattr(auth.settings, "MONAI_LABEL_AUTH_ENABLE", True)
    monkeypatch.setattr(auth, "get_public_key", lambda realm: public)
    with pytest.raises(jwt.InvalidTokenError, match="algorithms"):
        auth.from_token(token)


def test_missing_monai_label_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServerError, match=r"pip install 'medfm3d\[label\]'"):
        check_installed()


def test_command_ends_with_the_reason_and_a_code(tmp_path: Path) -> None:
    a_scan(tmp_path / "a.nii.gz")
    command = [Path(sys.executable).with_name("medfm3d"), "serve", "--studies", tmp_path, "--bundles", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "inference.json: no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_ids_with_gaps_are_shown_by_the_right_names() -> None:
    names = slicer_names({"cube": 2, "ball": 5})
    assert {names["cube"], names["ball"]} == {2, 5}
    assert [number for _, number in sorted(names.items(), key=lambda item: item[1])] == [1, 2, 3, 4, 5]
    assert slicer_names({"a": 1, "b": 2}) == {"a": 1, "b": 2}
