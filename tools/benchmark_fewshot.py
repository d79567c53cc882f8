"""Few-shot segmentation by medfm3d and its peers: the same support cases, scored cases and cores for all of them.

Runs that have their result in the work folder are skipped, so that it can be interrupted and called again. See
docs/benchmark_fewshot.md for what is measured and what the columns of the table mean.
"""

import argparse
import re
import sys
from pathlib import Path

from fewshot_benchmark.figure import draw_figure
from fewshot_benchmark.job import PEERS, Job, parse_method
from fewshot_benchmark.methods import METHODS
from fewshot_benchmark.results import read_result, read_results
from fewshot_benchmark.scheduler import run_all, split_cores
from fewshot_benchmark.selection import select_cases
from fewshot_benchmark.table import write_tables


def main() -> None:
    """Make the runs that are missing, then the tables and figures of all that are there."""
    arguments = parse_arguments()
    try:
        jobs = [] if arguments.table_only else list_jobs(arguments)
        run_missing(jobs, arguments)
        if not arguments.dry_run:
            results = read_results(arguments.work, arguments.cohort)
            print(write_tables(results, arguments.work, seed=0))
            for path in draw_figure(results, arguments.work):
                print(f"figure: {path}")
    except ValueError as error:
        sys.exit(f"error: {error}")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds the cohort's folder")
    parser.add_argument("--cohort", type=names, required=True, help="hippocampus, headneck_ct or another folder there")
    parser.add_argument("--organs", type=names, default=[], help="organs, instead of the cohort's usual ones")
    parser.add_argument("--k", type=numbers, default=[1, 5, 10], help="numbers of labelled cases, such as 1,5,10")
    parser.add_argument("--seeds", type=int, default=3, help="number of support sets, drawn with seeds 0, 1, ...")
    parser.add_argument(
        "--methods", type=names, default=[], help="of medfm3d, as NAME[:KEY=VALUE]..., such as decoder:iterations=200"
    )
    parser.add_argument("--peers", type=names, default=[], help=f"from {', '.join(PEERS)}")
    parser.add_argument(
        "--budget-s", type=numbers, default=[], help="CPU seconds that a peer may take, one run for each"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of results")
    parser.add_argument("--threads", type=int, default=1, help="cores of a run")
    parser.add_argument("--jobs", type=int, default=1, help="runs that go side by side")
    parser.add_argument(
        "--split",
        choices=("test", "development"),
        default="test",
        help="where scored cases come from; choose nothing by test",
    )
    parser.add_argument("--cases", type=int, help="largest number of scored cases")
    parser.add_argument("--keep-models", action="store_true", help="keep bundles and checkpoints beside the masks")
    parser.add_argument("--retry-failed", action="store_true", help="make failed runs again")
    parser.add_argument("--table-only", action="store_true", help="make no run")
    parser.add_argument("--dry-run", action="store_true", help="only list the runs and their cases")
    arguments = parser.parse_args()
    if not arguments.table_only and arguments.data is None:
        parser.error("--data: name the folder that holds the cohort's folder")
    if arguments.peers and not arguments.budget_s:
        parser.error("--budget-s: say how many CPU seconds a peer may take")
    if unknown := [peer for peer in arguments.peers if peer not in PEERS]:
        parser.error(f"--peers: no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if unknown := [name for text in arguments.methods if (name := parse_method(text)[0]) not in METHODS]:
        parser.error(f"--methods: no method {', '.join(unknown)}; there are {', '.join(METHODS)}")
    return arguments


def names(text: str) -> list[str]:
    """Return the parts of a,b,c; commas within brackets, as in a:key=[1,2], part nothing."""
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def numbers(text: str) -> list[int]:
    """Return the numbers of 1,5,10."""
    return [int(part) for part in names(text)]


def list_jobs(arguments: argparse.Namespace) -> list[Job]:
    """Return all runs that are asked for, seed by seed, so that a table made half-way has all methods."""
    methods = [(*parse_method(text), None) for text in arguments.methods]
    methods += [(peer, {}, float(budget)) for peer in arguments.peers for budget in arguments.budget_s]
    return [
        Job(
            data=str(arguments.data.absolute()),
            cohort=cohort,
            organs=tuple(arguments.organs),
            k=k,
            seed=seed,
            method=method,
            settings=settings,
            budget_s=budget_s,
            split=arguments.split,
            cases=arguments.cases,
            threads=arguments.threads,
        )
        for cohort in arguments.cohort
        for seed in range(arguments.seeds)
        for k in arguments.k
        for method, settings, budget_s in methods
    ]


def run_missing(jobs: list[Job], arguments: argparse.Namespace) -> None:
    """Make the runs that have no result yet, and say of each how it ended."""
    missing = []
    for job in jobs:
        result = read_result(job, arguments.work)
        if result is not None and result["status"] == "failed" and arguments.retry_failed:
            job.result_file(arguments.work).unlink()
            result = None
        if result is None:
            missing.append(job)
    print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them made before", flush=True)
    if arguments.dry_run:
        for job in missing:
            selection = select_cases(job)
            support = ", ".join(case.name for case in selection.support)
            print(f"{job.cohort} K={job.k} seed {job.seed} {job.label}: support {support}")
            print(f"    {len(selection.unlabelled)} unlabelled scans, {len(selection.scored)} scored ({job.split})")
        return
    split_cores(arguments.jobs, arguments.threads)  # says at once where there are too few
    for job in run_all(missing, arguments.work, at_once=arguments.jobs, keep=arguments.keep_models):
        result = read_result(job, arguments.work)
        end = f"{result['adaptation']['cpu_s']:.0f} CPU s to adapt" if result["status"] == "done" else result["error"]
        print(f"{job.cohort} K={job.k} seed {job.seed} {job.label}: {result['status']}, {end}", flush=True)


if __name__ == "__main__":  # nnU-Net starts processes that import this module again
    main()
