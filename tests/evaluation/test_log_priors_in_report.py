"""What log-priors changed is in the report."""

from pathlib import Path

import numpy as np
import pytest

from medfm3d.evaluation import write_report
from medfm3d.volumes import Volume, write_volume

CHANGE = {
    "case": "a",
    "prior": "location",
    "organ": "blob",
    "gained": 3,
    "lost": 41,
    "gained_ml": 0.003,
    "lost_ml": 0.041,
}


@pytest.mark.parametrize(
    ("log_priors", "said", "unsaid"),
    [
        (None, "not allowed to", "logits"),
        ([], "changed no voxel", "<p>Nothing: they were not allowed to"),
        ([CHANGE], 'id="log-priors"', "<p>Nothing: they were not allowed to"),
    ],
)
def test_voxels_that_priors_turned_are_listed(tmp_path: Path, log_priors: list | None, said: str, unsaid: str) -> None:
    array = np.zeros((8, 8, 8), dtype=np.uint8)
    array[2:5, 2:5, 2:5] = 1
    write_volume(Volume(array, np.eye(4)), tmp_path / "masks" / "a.nii.gz")
    write_volume(Volume(array.astype(np.float32), np.eye(4)), tmp_path / "scans" / "a.nii.gz")
    page = write_report(
        tmp_path / "report.html",
        evaluation=None,
        predictions=tmp_path / "masks",
        images=tmp_path / "scans",
        labels=None,
        organs={"blob": 1},
        remarks=None,
        log_priors=log_priors,
        title="made up",
    ).read_text(encoding="utf-8")
    assert said in page and unsaid not in page
    assert ("<td>41</td>" in page) == bool(log_priors)
