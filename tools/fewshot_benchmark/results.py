"""Results of runs, one JSON file each."""

import json
import platform
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fewshot_benchmark.job import Job
from medfm3d.volumes import write_json

FORMAT = "medfm3d-fewshot-run-1"
PACKAGES = ("medfm3d", "torch", "monai", "nnunetv2", "dynamic-network-architectures", "peft", "numpy")


def describe(job: Job) -> dict[str, Any]:
    """Return what every result says: the job, and with what, when and where it was made."""
    return {
        "format": FORMAT,
        "job": job.to_json(),
        "label": job.label,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"processor": _processor(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def failed_result(job: Job, reason: str) -> dict[str, Any]:
    """Return the result of a run that gave none."""
    return {**describe(job), "status": "failed", "error": reason}


def write_result(result: dict[str, Any], job: Job, work: Path) -> None:
    """Write a run's result, whole or not at all."""
    write_json(result, job.result_file(work))


def read_result(job: Job, work: Path) -> dict[str, Any] | None:
    """Return a run's result if it is there.

    Raises:
        ValueError: if it was made under other conditions than the job asks for.
    """
    path = job.result_file(work)
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    wanted = job.to_json()
    if other := [key for key, value in wanted.items() if key != "data" and result["job"].get(key) != value]:
        raise ValueError(
            f"{path}: was made with another {', '.join(other)} "
            f"({', '.join(repr(result['job'].get(key)) for key in other)}); use another --work, or remove it"
        )
    return result


def read_results(work: Path, cohorts: Iterable[str]) -> list[dict[str, Any]]:
    """Return all results of some cohorts that lie in a folder, in the order of their paths.

    Raises:
        ValueError: if results of the test cases and of development cases lie there together, or of different numbers of
            threads.
    """
    paths = [path for cohort in cohorts for path in sorted((work / cohort).glob("*/*/*.json"))]
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths if not path.name.startswith(".")]
    for key in ("split", "threads"):
        if len(found := {result["job"][key] for result in results}) > 1:
            raise ValueError(f"{work}: holds runs of different {key} ({', '.join(map(str, found))}); part them")
    return results


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None  # a peer that is not installed has no version to state


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
