"""Compile time: from a model to its first gradient, with an empty cache and with a full one.

    python -m benchmarks.compile_time                    # some minutes
    python -m benchmarks.compile_time gaps kronecker     # some models

Each model is compiled in a process of its own, which has imported everything and warmed up
PyTensor with a model of one variable. Printed are CPU seconds (compilation is one thread), those of
a second process that finds the cache of the first, how many functions numba compiled, and the CPU
seconds from there to the first prior predictive draw, cold; in brackets the same for
``pm.MvNormal`` where it can express the model. CPU seconds vary by a factor of two with what else
a machine does: compare them with those of ``ar1``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings

from benchmarks.__main__ import prepare_process


def _series(rng, likelihood, n=50, gaps=0):
    import pymc as pm

    import pm_gaussgrad as gg

    y = rng.normal(size=n)
    y[: 4 * gaps : 4] = float("nan")
    scale, correlation = pm.HalfNormal("scale"), pm.Uniform("correlation", -1, 1)
    likelihood("y", 0, gg.cov.AR1(scale**2, correlation), observed=y)


def ar1(rng, likelihood):
    """AR1, n = 50."""
    _series(rng, likelihood)


def gaps(rng, likelihood):
    """AR1, n = 50, 3 missing."""
    _series(rng, likelihood, gaps=3)


def process(rng, likelihood):
    """A Gaussian process, Dense, n = 50."""
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    squares = np.subtract.outer(np.arange(50), np.arange(50)) ** 2
    scale, length = pm.HalfNormal("scale"), pm.HalfNormal("length")
    cov = scale**2 * pt.exp(-squares / length**2) + 0.1 * np.eye(50)
    likelihood("y", 0, cov=cov, observed=rng.normal(size=50))


def regression(rng, likelihood):
    """60 rows of 4 outcomes, mean X B, LKJ prior."""
    import pymc as pm

    factor, *_ = pm.LKJCholeskyCov("factor", n=4, eta=2, sd_dist=pm.HalfNormal.dist(2))
    slopes = pm.Normal("slopes", shape=(3, 4))
    mean = rng.normal(size=(60, 3)) @ slopes
    likelihood("y", mean, chol=factor, observed=rng.normal(size=(60, 4)))


def blocks(rng, likelihood):
    """BlockDiagonal of 100 AR1 blocks of 3."""
    import pymc as pm

    import pm_gaussgrad as gg

    scale, correlation = pm.HalfNormal("scale"), pm.Uniform("correlation", -1, 1)
    parts = [gg.cov.AR1(scale**2, correlation, size=3) for _ in range(100)]
    likelihood("y", 0, gg.cov.BlockDiagonal(*parts), observed=rng.normal(size=300))


def ragged(rng, likelihood):
    """BlockDiagonal of 100 Dense blocks of 2 to 5."""
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    import pm_gaussgrad as gg

    scale, length = pm.HalfNormal("scale"), pm.HalfNormal("length")
    sizes = 2 + np.arange(100) % 4
    lags = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    whole = scale**2 * pt.exp(-lags / length)
    cov = gg.cov.BlockDiagonal(*(gg.cov.Dense(whole[:k, :k]) for k in sizes))
    likelihood("y", 0, cov, observed=rng.normal(size=sizes.sum()))


def visits(rng, likelihood):
    """RepeatedMeasures, 20 subjects at up to 4 visits."""
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    import pm_gaussgrad as gg

    subject, visit = np.divmod(np.arange(77), 4)
    lags = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    scale, noise = pm.HalfNormal("scale"), pm.HalfNormal("noise")
    within = scale**2 * pt.as_tensor(np.exp(-lags)) + noise * np.eye(4)
    cov = gg.cov.RepeatedMeasures(within, subject, visit)
    likelihood("y", 0, cov, observed=rng.normal(size=77))


def kronecker(rng, likelihood):
    """Kronecker of 5 x 5 with noise, 2 of 25 missing."""
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    import pm_gaussgrad as gg

    lags = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    y = rng.normal(size=25)
    y[[3, 7]] = np.nan
    scale, noise = pm.HalfNormal("scale"), pm.HalfNormal("noise")
    grid = gg.cov.Kronecker(scale**2 * pt.as_tensor(np.exp(-lags)), np.exp(-lags))
    likelihood("y", 0, grid + gg.cov.Diagonal(noise), observed=y)


def tasks(rng, likelihood):
    """Kronecker of 5 x 5 with noise by task."""
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    import pm_gaussgrad as gg

    lags = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    scale, noise = pm.HalfNormal("scale"), pm.HalfNormal("noise", shape=5)
    grid = gg.cov.Kronecker(scale**2 * pt.as_tensor(np.exp(-lags)), np.exp(-lags))
    by_task = gg.cov.Kronecker(gg.cov.Diagonal(noise), gg.cov.Diagonal(1.0, size=5))
    likelihood("y", 0, grid + by_task, observed=rng.normal(size=25))


def wide(rng, likelihood):
    """AR1 + Diagonal, 300 rows of 6 visits, 12 % NaN."""
    import pymc as pm

    import pm_gaussgrad as gg

    y = rng.normal(size=(300, 6))
    y[rng.uniform(size=y.shape) < 0.12] = float("nan")
    scale, correlation = pm.HalfNormal("scale"), pm.Uniform("correlation", -1, 1)
    cov = gg.cov.AR1(scale**2, correlation, size=6) + gg.cov.Diagonal(0.5, size=6)
    likelihood("y", 0, cov, observed=y)


def subjects(rng, likelihood):
    """AR1 by group + Diagonal, 5,000 subjects at 2 to 8 times."""
    import numpy as np
    import pymc as pm

    import pm_gaussgrad as gg

    group = np.repeat(np.arange(5000), rng.integers(2, 9, size=5000))
    time = rng.uniform(0, 10, size=group.size)
    scale, correlation = pm.HalfNormal("scale"), pm.Uniform("correlation", 0, 1)
    cov = gg.cov.AR1(scale**2, correlation, time=time, group=group)
    noise = gg.cov.Diagonal(pm.HalfNormal("noise"), size=group.size)
    likelihood("y", 0, cov + noise, observed=rng.normal(size=group.size))


def field(rng, likelihood):
    """Projected SparsePrecision of 20 nodes + Diagonal, n = 50."""
    import numpy as np
    import pymc as pm
    import scipy.sparse as sp

    import pm_gaussgrad as gg

    path = sp.diags_array([np.ones(19), np.ones(19)], offsets=[-1, 1])
    degrees = sp.diags_array(path.sum(axis=1))
    seen = sp.csr_array(np.eye(20)[rng.integers(20, size=50)])
    precision, noise = pm.HalfNormal("precision"), pm.HalfNormal("noise")
    latent = gg.cov.SparsePrecision.from_terms([(precision, degrees), (-0.9 * precision, path)])
    cov = gg.cov.Projected(seen, latent) + gg.cov.Diagonal(noise**2)
    likelihood("y", 0, cov, observed=rng.normal(size=50))


def effects(rng, likelihood):
    """Crossed Effects of 10 and 6 levels + Diagonal, n = 60."""
    import numpy as np
    import pymc as pm

    import pm_gaussgrad as gg

    first, second, noise = (pm.HalfNormal(x) for x in ("first", "second", "noise"))
    i = np.arange(60)
    cov = gg.cov.Effects(i % 10, first**2) + gg.cov.Effects(i // 10, second**2)
    mean = pm.Normal("mean")
    likelihood("y", mean, cov + gg.cov.Diagonal(noise**2), observed=rng.normal(size=60))


MODELS = (ar1, gaps, process, regression, blocks, ragged, visits, kronecker, tasks, wide, subjects)
MODELS += field, effects
WITH_PEER = {"process", "regression"}
# Run (cold, warm), what of it, and how many digits.
_COLUMNS = ((0, "seconds", 1), (1, "seconds", 1), (0, "functions", 0), (0, "draws", 1))


def measure(name: str, side: str) -> None:
    """In a process of its own: print seconds and number of functions as JSON."""
    import time

    import numpy as np
    import pymc as pm
    from numba.core import event

    import pm_gaussgrad as gg
    from benchmarks.measure import _warm_up

    build = next(model for model in MODELS if model.__name__ == name)
    _warm_up()
    with event.install_recorder("numba:compile") as compiled:
        start = time.process_time()
        with pm.Model() as model:
            build(np.random.default_rng(1), (gg if side == "ours" else pm).MvNormal)
        function = model.logp_dlogp_function(ravel_inputs=True)
        function(np.full(sum(np.size(x) for x in model.initial_point().values()), 0.1))
        seconds = time.process_time() - start
    functions = sum(record.is_start for _, record in compiled.buffer)
    start = time.process_time()
    pm.sample_prior_predictive(1, model=model, random_seed=1)
    draws = time.process_time() - start
    print(json.dumps({"seconds": seconds, "functions": functions, "draws": draws}))


def cold_and_warm(name: str, side: str) -> list[dict]:
    """What :func:`measure` prints with an empty cache, and with the one that this leaves."""
    with tempfile.TemporaryDirectory(prefix="gaussgrad_compile_") as cache:
        command = [sys.executable, "-m", "benchmarks.compile_time", name, "--measure", side]
        environment = os.environ | {"PYTENSOR_FLAGS": f"base_compiledir={cache}"}
        runs = [
            subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        return [json.loads(run.stdout.splitlines()[-1]) for run in runs]


def main() -> None:
    """Print a line a model."""
    names = [model.__name__ for model in MODELS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time")
    parser.add_argument("models", nargs="*", choices=[*names, []], metavar="MODEL", help=f"{names}")
    parser.add_argument("--measure", choices=["ours", "peer"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
    if options.measure:
        measure(options.models[0], options.measure)
        return
    prepare_process(tempfile.gettempdir())
    print(f"{'model':12} {'cold s':>16} {'warm s':>16} {'functions':>16} {'draws s':>16}")
    for model in MODELS:
        if options.models and model.__name__ not in options.models:
            continue
        runs = cold_and_warm(model.__name__, "ours")
        peer = cold_and_warm(model.__name__, "peer") if model.__name__ in WITH_PEER else None
        cells = [
            f"{runs[i][key]:.{digits}f}" + (f" ({peer[i][key]:.{digits}f})" if peer else "")
            for i, key, digits in _COLUMNS
        ]
        print(f"{model.__name__:12}", *(f"{cell:>16}" for cell in cells), f" {model.__doc__}")


if __name__ == "__main__":
    main()
