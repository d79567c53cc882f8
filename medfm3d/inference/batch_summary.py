"""The outcome of a batch in two files for people and programs: summary.csv and summary.json."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from medfm3d.inference.batch_journal import BatchJournal, CaseRecord
from medfm3d.inference.batch_stopped import BatchStopped
from medfm3d.volumes import output_name, write_json
from medfm3d.volumes.whole_file import whole_file

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
    with whole_file(output / CSV) as whole:
        # Names of files are bytes; those that are no UTF-8 are written as they are.
        whole.write_text(table.getvalue(), encoding="utf-8", errors="surrogateescape")
    content = [{"case": output_name(record.scan), **asdict(record)} for record in records]
    return output / CSV, write_json(content, output / JSON)


def write_shared_summary(journal: BatchJournal, scans: Sequence[Path]) -> int:
    """Write the summary of all that the journals of a folder say of these scans; see `write_summary`.

    Several shards may do so at the same time: the last one to finish writes what is known of all.

    Args:
        journal: of the folder, with the fingerprint of bundle and options.
        scans: those of all shards.

    Returns:
        How many of the scans are listed; the others are not done yet.

    Raises:
        BatchStopped: if the folder cannot be written to.
    """
    listed: dict[Path, CaseRecord] | None = None
    # Another shard that has read the journals earlier may write its summary later; so it looks once more.
    while (known := journal.of_this_batch(scans)) != listed:
        listed = known
        try:
            write_summary(journal.file.parent, [listed[scan] for scan in scans if scan in listed])
        except OSError as error:
            raise BatchStopped(f"{journal.file.parent}: the summary cannot be written ({error}); make room") from error
    return len(known)
