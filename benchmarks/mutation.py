"""A mutation pass: the share of small changes of the code that the tests notice.

    pip install -e ".[bench,test]"
    python -m benchmarks.mutation                           # from the project's root; an hour
    python -m benchmarks.mutation --mutants 50 --seed 3     # fewer, and others
    python -m benchmarks.mutation --files cov/grids/toeplitz.py   # of some files of the package
    python -m benchmarks.mutation --workers 16              # so many at a time

Mutants (``mutants.py``) are sampled from ``kernels/``, ``cov/`` and ``posterior/``, from each file
as many as its share of the places where an operator applies. Each is written to a copy of the
package and passes through the tests that concern its file (``mutation_tests.py``), the fastest
first, until one fails: it is killed. One that no test fails survives; either it is equivalent to
the code or a test is missing. In the end the tests that killed have to pass without a change.

A process that has imported everything but this package forks workers, each with a copy of its own,
and a worker a child for each mutant, which saves the imports. Compiled kernels are cached by a hash
of their code: a changed one is compiled anew.
"""

import argparse
import ast
import gc
import importlib
import json
import os
import resource
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from benchmarks.__main__ import prepare_process
from benchmarks.mutants import Mutant, mutants_of, sample
from benchmarks.mutation_tests import FILES, stages

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pm_gaussgrad"
# What the suite's configuration needs of pytest's plugins, and no more.
OPTIONS = ["-x", "-q", "--tb=no", "--assert=plain", "-o", "addopts="]
OPTIONS += ["-p", "no:cacheprovider", "-p", "xdist.plugin", "-p", "pytest_timeout"]
# Of pytest: an option or a file is wrong, no test was found.
NO_VERDICT = (4, 5)
# CPU seconds that a child may take: a loop without end is killed by the clock.
PATIENCE = 300
WARM = (
    "arviz", "hypothesis", "matplotlib.pyplot", "numba", "pandas", "pymc", "pytest",
    "pytensor.link.numba.dispatch", "pytest_timeout", "scipy.stats", "xdist.plugin",
)  # fmt: skip


class FirstFailure:
    """A plugin of pytest that keeps the first failure: which test, and why."""

    def __init__(self):
        self.test, self.reason = None, ""

    def pytest_runtest_logreport(self, report):
        self._keep(report)

    def pytest_collectreport(self, report):
        self._keep(report)

    def _keep(self, report):
        if report.failed and self.test is None:
            self.test = report.nodeid
            crash = getattr(report.longrepr, "reprcrash", None)
            self.reason = (crash.message if crash else str(report.longrepr)).partition("\n")[0]


def run_stages(copy: Path, chosen: list[tuple[list[str], str]], log: Path, pipe) -> None:
    """In a child: run tests with the copy of the package; send the first failure or None."""
    import numpy as np
    import pytest

    np.seterr(all="ignore")  # as compiled kernels are
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE + 5))
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    sys.path[:] = [str(copy), *(p for p in sys.path if p not in ("", str(ROOT)))]
    sys.dont_write_bytecode = True  # by its time stamp, one mutant's would do for the next
    for tests, k in chosen:
        failure = FirstFailure()
        status = pytest.main([*OPTIONS, "-k", k, *tests], plugins=[failure])
        if status != pytest.ExitCode.OK:
            pipe.send((int(status), failure.test, failure.reason))
            return
    pipe.send(None)


def outcome(copy: Path, chosen, log: Path) -> dict:
    """What becomes of the copy of the package in its tests: survived, killed, and by what."""
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    child = context.Process(target=run_stages, args=(copy, chosen, log, sender))
    child.start()
    sender.close()
    child.join()
    seconds = round(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before, 1)
    try:
        failure = receiver.recv()
    except EOFError:
        if child.exitcode > 0:
            raise SystemExit(f"the tests could not be run; {log.read_text()[-3000:]}") from None
        failure = (child.exitcode, None, "killed by a signal: too long, or a fault")
    if failure is None:
        return {"outcome": "survived", "seconds": seconds}
    status, test, reason = failure
    if status in NO_VERDICT:
        raise SystemExit(f"pytest ended with {status} for {chosen}; {log.read_text()[-3000:]}")
    return {
        "outcome": "killed", "status": status, "test": test, "reason": reason[:200],
        "seconds": seconds,
    }  # fmt: skip


def is_for_jax(file: str, line: int) -> bool:
    """Whether a line belongs to a form for JAX, which the other tests do not run."""
    tree = ast.parse((PACKAGE / file).read_text())
    inside = (
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= node.end_lineno
    )
    return file.endswith("_jax.py") or any(name.endswith("_jax") for name in inside)


def fresh_copy(folder: Path) -> Path:
    """A copy of the package, its tests and the page that they read, beside the same cases."""
    if (cases := ROOT.parent / "shared").is_dir():
        (folder.parent / cases.name).symlink_to(cases)
    skip = shutil.ignore_patterns("__pycache__")
    for name in (PACKAGE.name, "tests", "docs"):  # a page has the guide's structure
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def check_killers(copy: Path, tests: set[str], log: Path) -> None:
    """Raise unless the tests that killed mutants pass without a change."""
    found = outcome(copy, [(sorted(tests), "")], log)
    if found["outcome"] != "survived":
        raise SystemExit(f"{log.read_text()[-3000:]}\nfails without a change: {found}")


def prepare_worker(folder: Path) -> None:
    """Give a worker a copy of its own, where it stays."""
    place = fresh_copy(Path(tempfile.mkdtemp(dir=folder)) / "copy")
    os.chdir(place)


def attempt(mutant: Mutant, first: int | None) -> dict:
    """In a worker: what becomes of a mutant in its tests, or in the first sets of them."""
    copy = Path.cwd()
    target = copy / PACKAGE.name / mutant.file
    changed, before, after = mutant.apply(PACKAGE)
    target.write_text(changed)
    chosen = stages(mutant.file, is_for_jax(mutant.file, mutant.line))[:first]
    found = outcome(copy, chosen, copy.parent / "tests.log")
    shutil.copy(PACKAGE / mutant.file, target)
    return {
        "file": mutant.file, "line": mutant.line, "column": mutant.column,
        "operator": mutant.operator, "before": before, "after": after, **found,
    }  # fmt: skip


def run(mutants: list[Mutant], options, folder: Path) -> Iterator[dict]:
    """Try mutants, some at a time; what becomes of each, as they end."""
    killers = set()
    # All are forked at the first submission, before the pool has threads.
    with ProcessPoolExecutor(
        options.workers, get_context("fork"), initializer=prepare_worker, initargs=(folder,)
    ) as workers:
        try:
            trials = [workers.submit(attempt, mutant, options.stages) for mutant in mutants]
            for trial in as_completed(trials):
                found = trial.result()
                killers.add(found.get("test"))
                yield found
        finally:
            workers.shutdown(cancel_futures=True)
    tests = {test for test in killers if test and "::" in test}
    check_killers(fresh_copy(folder / "unchanged" / "copy"), tests, folder / "tests.log")


def parse(arguments=None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutation", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--mutants", type=int, default=200, metavar="N", help="default 200")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", nargs="+", choices=FILES, default=FILES, metavar="FILE")
    parser.add_argument("--at", nargs="+", metavar="FILE:LINE:COLUMN", help="all mutants here")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--stages", type=int, metavar="N", help="only the first N sets of tests")
    parser.add_argument(
        "--compiled", action="store_true", help="kernels by numba; kernels/lapack_numba.py needs it"
    )
    parser.add_argument("--cache", type=Path, help="where compiled kernels are kept")
    parser.add_argument("--results", type=Path, help="append here, as JSON lines; go on there")
    return parser.parse_args(arguments)


def warm_up() -> None:
    """Import what tests and package import, and prepare PyTensor's rewrites, for all children."""
    # PyTensor's remark about its C backend, which nothing here uses.
    warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
    for module in WARM:
        importlib.import_module(module)
    import pytensor
    import pytensor.tensor as pt

    x = pt.matrix("x")
    gradient = pt.grad(pt.linalg.cholesky(x @ x.T).sum(), x)
    for optimizer in ("fast_run", "fast_compile"):
        pytensor.function([x], gradient, mode=pytensor.compile.mode.Mode("py", optimizer))
    gc.collect()
    gc.freeze()


def main() -> int:
    """Sample, try, tell; 1 where more than a tenth survives."""
    options = parse()
    files = [f for f in options.files if options.compiled or f != "kernels/lapack_numba.py"]
    mutants = sample(PACKAGE, files, options.mutants, options.seed)
    if options.at:
        mutants = [m for file in files for m in mutants_of(PACKAGE, file)]
        mutants = [m for m in mutants if f"{m.file}:{m.line}:{m.column}" in options.at]
    if not options.compiled:
        os.environ |= {"NUMBA_DISABLE_JIT": "1", "PYTENSOR_FLAGS": "linker=py"}
    earlier = []
    if options.results and options.results.exists():
        earlier = [json.loads(line) for line in options.results.read_text().splitlines()]
    with tempfile.TemporaryDirectory(prefix="gaussgrad_mutation_") as folder:
        prepare_process(str(options.cache or Path(folder) / "cache"))
        warm_up()
        counts = Counter(found["outcome"] for found in earlier)
        known = {
            tuple(found[key] for key in ("file", "line", "column", "after")) for found in earlier
        }
        mutants = [
            m for m in mutants if (m.file, m.line, m.column, m.apply(PACKAGE)[2]) not in known
        ]
        for found in run(mutants, options, Path(folder)):
            counts[found["outcome"]] += 1
            print(
                f"{found['outcome']:8} {found['seconds']:6.1f} s  {found['file']}:{found['line']}  "
                f"{found['before']}  ->  {found['after']}  [{found.get('test')}]",
                flush=True,
            )
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
    print(f"{counts.total()} mutants, {counts['survived']} survived")
    return int(counts["survived"] > counts.total() / 10)


if __name__ == "__main__":
    sys.exit(main())
