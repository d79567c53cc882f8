"""The layers of the design hold in the code."""

import subprocess
import sys
from pathlib import Path

FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}


def test_rooms_import_only_from_rooms_beneath_them(repository: Path) -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_is_named_for_its_one_thing_and_short(repository: Path) -> None:
    files = list((repository / "medfm3d").rglob("*.py"))
    assert len(files) > 30
    assert not [file for file in files if file.name in FORBIDDEN_NAMES]
    assert not [file for file in files if len(file.read_text().splitlines()) > 300]


def test_no_data_in_the_repository(repository: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True).stdout
    data = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".dcm", ".ckpt")
    assert not [name for name in listed.splitlines() if name.endswith(data)]
