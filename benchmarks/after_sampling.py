"""After sampling: CPU seconds of 1,000 draws, as they come, interpreted and compiled.

    python -m benchmarks.after_sampling                  # some minutes
    python -m benchmarks.after_sampling loo draws        # some functions

Each figure comes from a process of its own that has compiled the model's log density and gradient,
and finds only these in the cache on disk, as after sampling. Printed are CPU seconds of 1,000 draws
by default, where each function chooses how it is evaluated; in brackets these, less 3 seconds, in
units of 1,000 evaluations of value and gradient; and the same where everything is interpreted and
where everything is compiled, as ``compile_kwargs`` can have it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

from benchmarks.__main__ import prepare_process

DRAWS = 1_000
FREE = 3.0  # seconds that are not counted in the ratio
NEW = 100
WAYS = ("default", "interpreted", "compiled")


def _process(n=300):
    """A Gaussian process of pm.gp.cov: its model, kernel, inputs and data."""
    import numpy as np
    import pymc as pm

    import pm_gaussgrad as gg

    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 20, n))[:, None]
    with pm.Model() as model:
        scale, noise = pm.HalfNormal("scale", 2), pm.HalfNormal("noise", 1)
        kernel = scale**2 * pm.gp.cov.Matern52(1, ls=pm.InverseGamma("length", 3, 8))
        y = np.sin(x[:, 0]) + 0.3 * rng.normal(size=n)
        gg.MvNormal("y", 0, kernel(x) + noise**2 * np.eye(n), observed=y)
    return model, kernel, x, np.linspace(0, 24, NEW)[:, None]


def loo():
    """Leave-one-out log densities, n = 300."""
    import pm_gaussgrad as gg

    model, *_ = _process()
    return model, lambda idata, **options: gg.loo_log_likelihood(idata, model, **options)


def whitened():
    """Whitened residuals, n = 300."""
    import pm_gaussgrad as gg

    model, *_ = _process()
    return model, lambda idata, **options: gg.whitened_residuals(idata, model, **options)


def draws():
    """Predictive draws of 100 new entries, n = 300."""
    import pm_gaussgrad as gg

    model, kernel, x, new = _process()
    blocks = 0, kernel(x, new), kernel(new)
    return model, lambda idata, **options: gg.predict(
        idata, *blocks, model=model, random_seed=1, **options
    )


def diag():
    """Mean and variance of 100 new entries, n = 300."""
    import pm_gaussgrad as gg

    model, kernel, x, new = _process()
    blocks = 0, kernel(x, new), kernel(new, diag=True)
    return model, lambda idata, **options: gg.predict(
        idata, *blocks, diag=True, model=model, **options
    )


def series():
    """Leave-one-out log densities of an AR1, n = 200."""
    import numpy as np
    import pymc as pm

    import pm_gaussgrad as gg

    with pm.Model() as model:
        scale, correlation = pm.HalfNormal("scale"), pm.Uniform("correlation", -1, 1)
        y = np.random.default_rng(0).normal(size=200)
        gg.MvNormal("y", 0, gg.cov.AR1(scale**2, correlation), observed=y)
    return model, lambda idata, **options: gg.loo_log_likelihood(idata, model, **options)


FUNCTIONS = (loo, whitened, draws, diag, series)


def of_gradient(model) -> float:
    """Median CPU seconds of one evaluation of a model's log density and gradient."""
    import time

    import numpy as np

    gradient = model.logp_dlogp_function(ravel_inputs=True)
    point = np.zeros(len(model.value_vars))
    gradient(point)
    repeated = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(40):
            gradient(point)
        repeated.append((time.process_time() - start) / 40)
    return float(np.median(repeated))


def measure(name: str, way: str) -> None:
    """In a process of its own: print the seconds of all draws, and of one gradient, as JSON."""
    import time

    import arviz as az
    import numpy as np

    from pm_gaussgrad.posterior.evaluation.interpreted import INTERPRETED

    model, function = next(x for x in FUNCTIONS if x.__name__ == name)()
    gradient, seconds = of_gradient(model), None
    if way != "nothing":
        rng = np.random.default_rng(1)
        posterior = {x.name: rng.uniform(0.5, 0.9, size=(1, DRAWS)) for x in model.free_RVs}
        idata = az.from_dict({"posterior": posterior})
        modes = {"interpreted": {"mode": INTERPRETED}, "compiled": {"mode": "NUMBA"}}
        start = time.process_time()
        function(idata, progressbar=False, compile_kwargs=modes.get(way))
        seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "gradient": gradient}))


def in_new_process(name: str, way: str, cache: str) -> dict:
    """What :func:`measure` prints, with that cache."""
    command = [sys.executable, "-m", "benchmarks.after_sampling", name, "--measure", way]
    environment = os.environ | {"PYTENSOR_FLAGS": f"base_compiledir={cache}"}
    run = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(run.stdout.splitlines()[-1])


def of_ways(name: str, ways) -> list[dict]:
    """The same for each way, with a cache that the gradient alone has filled."""
    runs = []
    with tempfile.TemporaryDirectory(prefix="gaussgrad_after_") as folder:
        filled = os.path.join(folder, "filled")
        in_new_process(name, "nothing", filled)
        for way in ways:
            shutil.copytree(filled, own := os.path.join(folder, way))
            runs.append(in_new_process(name, way, own))
    return runs


def main() -> None:
    """Print a line a function."""
    names = [function.__name__ for function in FUNCTIONS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.after_sampling")
    parser.add_argument("functions", nargs="*", choices=[*names, []], metavar="FUNCTION")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="by default all")
    parser.add_argument("--measure", choices=["nothing", *WAYS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
    if options.measure:
        measure(options.functions[0], options.measure)
        return
    prepare_process(tempfile.gettempdir())
    print(f"{'function':10} {'gradient ms':>12} {' '.join(f'{way:>16}' for way in options.ways)}")
    for function in FUNCTIONS:
        if options.functions and function.__name__ not in options.functions:
            continue
        runs, cells = of_ways(function.__name__, options.ways), []
        for run in runs:
            ratio = max(run["seconds"] - FREE, 0) / (DRAWS * run["gradient"])
            cells.append(f"{run['seconds']:.1f} ({ratio:.1f})")
        gradient = 1e3 * min(run["gradient"] for run in runs)
        line = " ".join(f"{cell:>16}" for cell in cells)
        print(f"{function.__name__:10} {gradient:12.2f} {line}  {function.__doc__}", flush=True)


if __name__ == "__main__":
    main()
