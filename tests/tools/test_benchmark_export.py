"""The comparison of exported files, over a bundle of a few steps."""

import json
from pathlib import Path

import benchmark_export


def test_each_file_has_its_row(bundle: Path, small_cohort: Path, tmp_path: Path) -> None:
    report = tmp_path / "rows.json"
    arguments = ("--bundle", bundle, "--data", small_cohort, "--limit", 1, "--json", report)
    benchmark_export.main([str(argument) for argument in arguments])
    told = json.loads(report.read_text())
    rows = {row["network"]: row for row in told["rows"]}
    assert told["cases"] == 1 and list(rows) == ["PyTorch", "ONNX", "ONNX int8"]
    assert rows["PyTorch"]["dice"] > 0.3
    assert abs(rows["ONNX"]["dice"] - rows["PyTorch"]["dice"]) < 1e-3
    assert rows["ONNX int8"]["size_mb"] < 0.6 * rows["ONNX"]["size_mb"]
    assert all(row["cpu_s_a_case"] > 0 for row in rows.values())
