"""The outcome of a batch in two files for people and programs: summary.csv and summary.json."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from medfm3d.inference.batch_journal import CaseRecord
from medfm3d.volumes import output_name, write_json

CSV, JSON = "summary.csv", "summary.json"


def write_summary(output: str | Path, records: Sequence[CaseRecord]) -> tuple[Path, Path]:
    """Write what became of each scan: mask, volumes in mL, what surprised the priors, seconds of each step, error.

    Args:
        output: folder of masks.
        records: of all scans of the batch.

    Returns:
        The CSV file, with a row for each scan and a column for each organ's volume, and the JSON file.
    """
    output = Path(output)
    organs = list(dict.fromkeys(organ for record in records for organ in record.volumes_ml))
    steps = list(dict.fromkeys(step for record in records for step in record.seconds))
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(
        ["case", "scan", "mask", *(f"{organ}_ml" for organ in organs), "surprises", *(f"{s}_s" for s in steps), "error"]
    )
    for record in records:
        case = output_name(record.scan)
        volumes = [f"{record.volumes_ml[organ]:.4g}" if organ in record.volumes_ml else "" for organ in organs]
        seconds = [f"{record.seconds[step]:.3f}" if step in record.seconds else "" for step in steps]
        surprises = "; ".join(remark["text"] for remark in record.remarks)
        writer.writerow([case, record.scan, record.mask or "", *volumes, surprises, *seconds, record.error or ""])
    output.mkdir(parents=True, exist_ok=True)
    partial = output / f".{CSV}.partial"
    partial.write_text(table.getvalue(), encoding="utf-8")
    content = [{"case": output_name(record.scan), **asdict(record)} for record in records]
    return partial.replace(output / CSV), write_json(content, output / JSON)
