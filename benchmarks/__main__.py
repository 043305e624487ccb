"""The command line: prepare the process, run the cases, print the table, draw the plot.

One BLAS thread and an empty cache of compiled functions have to be arranged before NumPy and
PyTensor are imported, which is why everything else is imported inside functions.
"""

import argparse
import atexit
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

THREADS = ("OPENBLAS", "OMP", "MKL", "BLIS", "NUMBA", "VECLIB_MAXIMUM")


def prepare_process(cache: str) -> None:
    """One thread for every library; compiled functions are cached in ``cache`` only."""
    for library in THREADS:
        os.environ[f"{library}_NUM_THREADS" if "_" not in library else f"{library}_THREADS"] = "1"
    flags = [os.environ.get("PYTENSOR_FLAGS"), f"base_compiledir={cache}"]
    os.environ["PYTENSOR_FLAGS"] = ",".join(filter(None, flags))


def parse(arguments=None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--case", nargs="+", metavar="NAME", help="run only these cases")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repetitions")
    parser.add_argument("--no-compile", action="store_true", help="do not time cold compilation")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        default=Path(__file__).with_name("scaling.png"),
        help="where to draw time against size (default: benchmarks/scaling.png)",
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Measure, report; 0 unless a case does not exist."""
    # PyTensor's remark about its C backend, which nothing here uses.
    warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
    from benchmarks import measure, report
    from benchmarks.registry import CASES

    cases = {case.name: case for case in CASES}
    if options.list:
        for case in CASES:
            print(f"{case.name:12} {case.title}; against {case.peer}")
        return 0
    unknown = set(options.case or ()) - cases.keys()
    if unknown:
        print(f"no such case: {', '.join(sorted(unknown))}; --list names them", file=sys.stderr)
        return 2
    chosen = [cases[name] for name in options.case or cases]
    # All cold compilations come first, in children of a process that has compiled nothing.
    compile_seconds = {}
    if not options.no_compile:
        compile_seconds = {case.name: measure.compile_seconds(case) for case in chosen}
    results = []
    for case in chosen:
        results.append(measure.run_case(case, options.quick))
        report.progress(results[-1])
    report.print_table(results, compile_seconds)

    from benchmarks.plot import plot_scaling

    plot_scaling(results, options.plot)
    print(f"Plot: {options.plot}")
    return 0


def main() -> int:
    """Run with a cache directory that is removed afterwards."""
    options = parse()
    cache = tempfile.mkdtemp(prefix="gaussgrad_benchmarks_")
    # Registered before PyTensor's own exit handler, hence called after it.
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    prepare_process(cache)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
