"""One run of the benchmark in a process of its own: `python -m fewshot_benchmark.worker JOB.json`.

The scheduler starts it with its threads set in the environment; it pins itself to its cores before torch is imported.
"""

import json
import os
import sys
import traceback
from pathlib import Path


def main() -> None:
    """Make the run that a file describes and write its result, also that of a failed one."""
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.sched_setaffinity(0, order["cores"])

    import torch

    from fewshot_benchmark.job import Job
    from fewshot_benchmark.results import failed_result, write_result
    from fewshot_benchmark.run import make_run

    job, work = Job.from_json(order["job"]), Path(order["work"])
    torch.set_num_threads(job.threads)
    try:
        result = make_run(job, work, keep=order["keep"])
    except Exception as error:
        traceback.print_exc()
        result = failed_result(job, f"{type(error).__name__}: {error}")
    write_result(result, job, work)


if __name__ == "__main__":  # processes that a method starts import this module too
    main()
