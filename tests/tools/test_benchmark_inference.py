"""The comparison of sliding windows, and of ways to search a scan, on small volumes."""

import json
from pathlib import Path
from typing import Any

import benchmark_inference
import numpy as np
import pytest
import torch
from inference_benchmark import cohort, growth
from inference_benchmark.engines import ENGINES, Counted, build_network, engine
from monai.data import MetaTensor

from medfm3d.volumes import Volume


def row(shape: tuple[int, int, int], classes: int, name: str, peak_gb: float, **more: Any) -> dict[str, Any]:
    measured = {"status": "done", "wall_s": 2.0, "cpu_s": 1.0, "windows": 8, "agreement": 1.0}
    return {"shape": list(shape), "classes": classes, "engine": name, "peak_gb": peak_gb} | measured | more


def monai_rows() -> list[dict[str, Any]]:
    shapes = ((64, 64, 64), (96, 96, 96), (128, 128, 128))
    expected = [(shape, classes, 0.1 + 0.004 * classes + np.prod(shape) / 1e6 * (0.01 + 0.0037 * classes))
                for shape in shapes for classes in (2, 14, 117)]  # fmt: skip
    return [row(shape, classes, "monai", peak) for shape, classes, peak in expected]


def test_all_engines_label_the_same_windows_alike() -> None:
    torch.manual_seed(0)
    network = Counted(build_network("light", 3)).eval()
    volume = torch.randn(1, 1, 32, 32, 16)
    labels, windows = {}, {}
    with torch.no_grad():
        for name in ENGINES:
            network.windows = 0
            labels[name] = engine(name, network, 16, 0.5)(volume).numpy()
            windows[name] = network.windows
    assert set(windows.values()) == {9}
    for name in ENGINES:
        assert labels[name].shape == (32, 32, 16)
        # nnU-Net and medfm3d-fp16 sum up in half precision; of noise, an untrained network is nowhere sure.
        assert (labels[name] == labels["monai"]).mean() > (0.97 if name in ("nnunet", "medfm3d-fp16") else 0.9999), name
    with pytest.raises(ValueError, match="choose from monai"):
        engine("other", network, 16, 0.5)


def test_memory_is_extrapolated_from_what_was_measured(tmp_path: Path) -> None:
    rows = monai_rows()
    coefficients, error = growth.fit_memory(rows)
    assert error < 1e-3
    expected = 0.1 + 0.004 * 117 + 512 * 512 * 300 / 1e6 * (0.01 + 0.0037 * 117)
    assert growth.predict_memory(coefficients, (512, 512, 300), 117) == pytest.approx(expected, rel=1e-3)
    assert growth.fit_memory(rows[:3]) is None
    assert growth.scores_gb((512, 512, 300), 117) == pytest.approx(34.28, abs=0.01)
    own = [row((96, 96, 96), 14, "medfm3d", 0.2, cpu_s=0.7), row((512, 512, 300), 117, "medfm3d", 3.0)]
    failed = row((512, 512, 300), 117, "monai", 0, status="no room in 18 GiB")
    table = growth.as_table([*rows, *own, failed])
    assert f"| 0.70 | {0.2 / rows[4]['peak_gb']:.2f} |" in table
    assert f"{3 / expected:.2f} of {expected:.1f} by the fit, 0.09 of its scores alone" in table
    assert "no room in 18 GiB" in table
    growth.draw([*rows, *own, failed], tmp_path / "growth.png")
    assert 5_000 < (tmp_path / "growth.png").stat().st_size < 150_000


def test_rows_of_several_runs_are_put_together(tmp_path: Path) -> None:
    benchmark_inference.write_rows(monai_rows(), tmp_path)
    again = row((64, 64, 64), 2, "monai", 0.5)
    benchmark_inference.write_rows([again, row((64, 64, 64), 2, "medfm3d", 0.1)], tmp_path)
    kept = json.loads((tmp_path / "inference.json").read_text())
    assert len(kept) == 10 and again in kept
    assert "| 0.20 |" in (tmp_path / "inference.md").read_text()
    assert (tmp_path / "inference.png").is_file()


def test_what_a_box_holds_of_an_organ_is_counted_in_millimetres() -> None:
    label = np.zeros((20, 20, 20), dtype=np.uint8)
    label[4:8, 4:8, 4:8] = 2
    label[0, 0, 0] = 7
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    outlined = Volume(label, affine)
    scan = MetaTensor(torch.zeros(1, 1, 20, 20, 20), affine=torch.diag(torch.tensor([2.0, 2, 2, 1]).double()))
    scan.affine[0, 3] = -38.0
    # Voxels 4 to 7 lie at -7 to -4 mm: voxels 15.5 to 17 of the scan.
    whole = (slice(15, 18), slice(2, 4), slice(4, 8))
    assert cohort.box_recall(scan, whole, outlined, [2]) == 1
    assert cohort.box_recall(scan, (slice(17, 18), *whole[1:]), outlined, [2]) == 0.5
    assert cohort.box_recall(scan, whole, outlined, [3]) == 1


def test_every_way_to_search_a_cohort_is_measured(bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    modes = cohort.modes_of(bundle)
    assert modes == ["all windows", "box by prior", "box by coarse pass", "box by both"], "air is told in CT alone"
    rows = []
    for mode in modes:
        order = {"bundle": str(bundle), "data": str(small_cohort), "cohort": None, "limit": 2, "threads": 1}
        order |= {"mode": mode, "masks": str(tmp_path / mode)}
        measured = order | cohort.measure_mode(order)
        cohort.add_scores(measured, order)
        rows.append(measured)
        assert measured["cases"] == 2 and measured["windows"] >= 1
        assert measured["recall"] > 0.8 and measured["dice"] > 0.3
    assert rows[0]["share"] == rows[0]["recall"] == 1
    assert rows[3]["recall"] >= rows[1]["recall"]
    cohort.write(rows, tmp_path / "out")
    table = (tmp_path / "out" / "cohort.md").read_text()
    assert "| +0.0000 |" in table.splitlines()[2] and len(table.splitlines()) == 6


def test_a_cohort_must_be_named(bundle: Path) -> None:
    with pytest.raises(SystemExit, match="name its folder by --data"):
        benchmark_inference.main(["--bundle", str(bundle)])
