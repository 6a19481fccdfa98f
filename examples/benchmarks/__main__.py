"""Command line: ``python -m examples.benchmarks TASK``."""

import argparse
import json
import math
from pathlib import Path

from .methods import REPORTED, TITLES
from .report import reported, table, write_page
from .runs import append, in_a_process, read, run_all
from .scaling import measure_fits, measure_scaling
from .speed import WORKLOADS, lines, measure
from .speed_page import fits_lines, scaling_lines, write_speed
from .study import FACTORS
from .study_page import write_study
from .tasks import FIRST_REPORTED, GROUPS, TASKS, Options

_HERE = Path(__file__).parent


def _parser():
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks")
    parser.add_argument(
        "task",
        help=f"report (writes the pages of the documentation), speed, fits or "
        f"scaling, a group ({', '.join(GROUPS)}) or a task ({', '.join(TASKS)})",
    )
    parser.add_argument("--splits", type=int, default=5, help="label splits (5)")
    parser.add_argument(
        "--first",
        type=int,
        default=FIRST_REPORTED,
        help=f"first label split ({FIRST_REPORTED}); those before are for tuning",
    )
    parser.add_argument(
        "--methods",
        default="all",
        help=f"of all, reported, study, {','.join([*TITLES, *FACTORS])}; of speed: "
        f"{','.join(WORKLOADS)}",
    )
    parser.add_argument("--data", type=Path, help="folder of MNIST, USPS, CIFAR-10")
    parser.add_argument("--download", action="store_true", help="if not there")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="in under three minutes")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="stop after so many minutes, at the end of an epoch (methods other than "
        "networks: of a fit); an unfinished run is kept in the folder checkpoints "
        "beside the records, and the same call resumes it",
    )
    parser.add_argument("--table", action="store_true", help="print, do not run")
    parser.add_argument("--json", action="store_true", help="of speed: print JSON")
    parser.add_argument("--records", type=Path, default=_HERE / "results.jsonl")
    parser.add_argument("--speed-records", type=Path, default=_HERE / "speed.jsonl")
    parser.add_argument("--docs", type=Path, default=_HERE.parents[1] / "docs")
    return parser


def main(arguments=None):
    """Run a task, print its records, or write the pages."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.task == "report":
        write_page(read(options.records), options.docs)
        write_study(read(options.records), options.docs)
        write_speed(read(options.speed_records), options.docs)
        return
    if options.task in ("speed", "fits", "scaling"):
        _time(options)
        return
    names = GROUPS.get(options.task, [options.task])
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        parser.error(f"unknown task {unknown[0]!r}; --help lists them")
    if not options.table:
        sets = {"all": list(TITLES), "reported": REPORTED, "study": list(FACTORS)}
        asked = options.methods.split(",")
        methods = [method for word in asked for method in sets.get(word, [word])]
        n_splits = 1 if options.small else options.splits
        splits = range(options.first, options.first + n_splits)
        where = Options(options.data, options.download, options.small)
        run_all(
            names,
            methods,
            splits,
            options.records,
            where,
            options.device,
            options.minutes,
        )
    tuning = options.first < FIRST_REPORTED
    records = reported(read(options.records), tuning)
    print("\n".join(table(records, names, options.small)))


def _time(options):
    """Measure seconds and memory, print them and add them to the records."""
    if options.task == "fits":
        measured = [(measure_fits(), fits_lines)]
    elif options.task == "scaling":
        measured = [(measure_scaling(), scaling_lines)]
    else:
        asked = options.methods
        names = WORKLOADS if asked == "all" else asked.split(",")
        measured = (
            (in_a_process(measure, name, options.device), lines) for name in names
        )
    for record, text in measured:
        append(record, options.speed_records)
        printed = json.dumps(record) if options.json else "\n".join(text(record))
        print(printed, flush=True)


if __name__ == "__main__":
    main()
