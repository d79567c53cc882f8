"""A report on one made-up mask."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medfm3d.evaluation import write_report
from medfm3d.volumes import Volume, write_volume


@pytest.fixture
def report_page(tmp_path: Path) -> Callable[..., str]:
    """The HTML of a report on a mask of one cube, without outlines to compare; arguments as of `write_report`."""

    def write(**arguments: object) -> str:
        array = np.zeros((8, 8, 8), dtype=np.uint8)
        array[2:5, 2:5, 2:5] = 1
        write_volume(Volume(array, np.eye(4)), tmp_path / "masks" / "a.nii.gz")
        write_volume(Volume(array.astype(np.float32), np.eye(4)), tmp_path / "scans" / "a.nii.gz")
        common = {
            "evaluation": None,
            "predictions": tmp_path / "masks",
            "images": tmp_path / "scans",
            "labels": None,
            "organs": {"cube": 1},
            "remarks": None,
            "title": "made up",
        }
        return write_report(tmp_path / "report.html", **{**common, **arguments}).read_text(encoding="utf-8")

    return write
