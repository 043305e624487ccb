"""What gaps, rows that differ and groups cost, beside the same data without them.

    python -m benchmarks.data_shapes                     # some minutes, most of it compilation
    python -m benchmarks.data_shapes AR1 Toeplitz        # some structures

One row a structure: milliseconds of log density and gradient by its parameters, of n
observations without gaps; how many times as long it takes where 5 % of them are missing, and where
rows miss different entries, beside as many complete rows. Below, series and groups of irregular
times beside as many observations of one series, and models of rows beside ``pm.MvNormal``: with a
linear mean, as arrays and in ``pm.Data``, also beside their statistics written by hand, and with
one that is not linear. Medians, one process, one BLAS thread.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.__main__ import prepare_process

SEED = 1
ROWS = 50


@dataclass(frozen=True)
class Shape:
    """A structure of n observations: ``build(*scalars)``, and values of the scalars."""

    name: str
    n: int
    build: Callable
    values: tuple


def shapes() -> list[Shape]:
    """The structures that are compared; sizes as people have them."""
    import numpy as np
    import pytensor.tensor as pt

    import pm_gaussgrad as gg

    def lags(n):
        return np.abs(np.subtract.outer(np.arange(n), np.arange(n)))

    def kernel(length, n):
        return pt.exp(-lags(n) / length)

    cov, rng = gg.cov, np.random.default_rng(SEED)
    loadings, vectors = rng.normal(size=(2000, 10)), np.linalg.qr(rng.normal(size=(300, 300)))[0]
    subject, visit = np.divmod(np.arange(2000), 8)
    return [
        Shape("Diagonal", 2000, lambda v: cov.Diagonal(v, size=2000), (1.3,)),
        Shape("CompoundSymmetry", 2000, lambda v, r: cov.CompoundSymmetry(v, r, 2000), (1.3, 0.4)),
        Shape("AR1", 2000, lambda v, r: cov.AR1(v, r, size=2000), (1.3, 0.6)),
        Shape(
            "AR1 + Diagonal",
            2000,
            lambda v, r: cov.AR1(v, r, size=2000) + cov.Diagonal(0.5, size=2000),
            (1.3, 0.6),
        ),
        Shape(
            "LowRank + Diagonal",
            2000,
            lambda u, v: cov.LowRank(u * loadings) + cov.Diagonal(v, size=2000),
            (0.5, 1.3),
        ),
        Shape("Toeplitz", 2000, lambda s: cov.Toeplitz(pt.exp(-np.arange(2000) / s)), (5.0,)),
        Shape(
            "Kronecker + Diagonal",
            1200,
            lambda a, s: cov.Kronecker(kernel(a, 30), kernel(a, 40)) + cov.Diagonal(s, size=1200),
            (5.0, 0.5),
        ),
        Shape(
            "RepeatedMeasures",
            2000,
            lambda s: cov.RepeatedMeasures(kernel(s, 8), subject, visit),
            (5.0,),
        ),
        Shape("Dense", 300, lambda s: cov.Dense(kernel(s, 300)), (5.0,)),
        Shape(
            "Eigenbasis",
            300,
            lambda s: cov.Eigenbasis(vectors, 1 + s * np.arange(300)),
            (0.01,),
        ),
    ]


def milliseconds(shape: Shape, y) -> float:
    """Of log density and gradient, the median of calls."""
    import numpy as np
    import pytensor
    import pytensor.tensor as pt

    import pm_gaussgrad as gg

    scalars = [pt.dscalar(f"x{i}") for i, _ in enumerate(shape.values)]
    logp = gg.logp(y, 0.0, shape.build(*scalars)).sum()
    function = pytensor.function(scalars, [logp, *pt.grad(logp, scalars)])
    function.trust_input = True
    values = [np.asarray(value) for value in shape.values]
    function(*values)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        function(*values)
        times.append(time.perf_counter() - start)
        if sum(times) > 3 and len(times) > 8:
            break
    return 1e3 * float(np.median(times))


def gaps(shape: Shape) -> str:
    """A row of the first table."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    y, rows = rng.normal(size=shape.n), rng.normal(size=(ROWS, shape.n))
    complete, many = milliseconds(shape, y), milliseconds(shape, rows)
    y[rng.choice(shape.n, shape.n // 20, replace=False)] = np.nan
    of_gaps = milliseconds(shape, y) / complete
    cells = [f"`{shape.name}`", f"{shape.n:,}", f"{complete:.3f}", f"{of_gaps:.1f}", f"{many:.3f}"]
    # Rows of many entries, each of which is solved for, take long: fewer miss some.
    rows[rng.uniform(size=rows.shape) < min(0.1, 10 / shape.n)] = np.nan
    try:
        cells.append(f"{milliseconds(shape, rows) / many:.1f}")
    except NotImplementedError:
        cells.append("-")
    return f"| {' | '.join(cells)} |"


def groups() -> list[Shape]:
    """The same number of observations as one series and in groups."""
    import numpy as np

    import pm_gaussgrad as gg

    rng = np.random.default_rng(SEED)
    group = np.repeat(np.arange(5000), rng.integers(2, 9, size=5000))
    n, cov = group.size, gg.cov
    time_, shuffled = rng.uniform(0, 10, n), rng.permutation(n)

    def noisy(series):
        return series + cov.Diagonal(0.5, size=n)

    return [
        Shape("AR1", n, lambda v, r: cov.AR1(v, r, size=n), (1.3, 0.6)),
        Shape("AR1 + Diagonal", n, lambda v, r: noisy(cov.AR1(v, r, size=n)), (1.3, 0.6)),
        Shape(
            "AR1(time=, group=)", n, lambda v, r: cov.AR1(v, r, time=time_, group=group), (1.3, 0.6)
        ),
        Shape(
            "AR1(time=, group=) + Diagonal",
            n,
            lambda v, r: noisy(cov.AR1(v, r, time=time_, group=group)),
            (1.3, 0.6),
        ),
        Shape(
            "the same, rows of the table in no order",
            n,
            lambda v, r: noisy(cov.AR1(v, r, time=time_[shuffled], group=group[shuffled])),
            (1.3, 0.6),
        ),
        Shape(
            "CompoundSymmetry(group=)",
            n,
            lambda v, r: cov.CompoundSymmetry(v, r, group=group),
            (1.3, 0.4),
        ),
    ]


def regression(m: int, density: Callable, data: bool = False):
    """Log density and gradient of a model of m rows of 5, with an LKJ prior: a function of a point.

    ``density(y, x, slopes, chol)`` adds the likelihood.
    """
    import numpy as np
    import pymc as pm

    rng = np.random.default_rng(SEED)
    x, y = rng.normal(size=(m, 4)), rng.normal(size=(m, 5))
    with pm.Model() as model:
        slopes = pm.Normal("slopes", shape=(4, 5))
        chol, *_ = pm.LKJCholeskyCov("L", n=5, eta=2, sd_dist=pm.HalfNormal.dist(1))
        if data:
            x, y = pm.Data("x", x), pm.Data("y_data", y)
        density(y, x, slopes, chol)
    function = model.logp_dlogp_function(ravel_inputs=True)
    function.set_extra_values({})
    return function


def of_library(library, mean: str, spelling: str = "chol") -> Callable:
    """The likelihood as its users write it."""
    import pytensor.tensor as pt

    def density(y, x, slopes, chol):
        matrix = chol if spelling == "chol" else chol @ chol.T
        mu = x @ slopes if mean == "linear" else pt.tanh(x @ slopes)
        library.MvNormal("y", mu, **{spelling: matrix}, observed=y)

    return density


def by_hand(y, x, slopes, chol):
    """The likelihood of rows with a linear mean from the triangular factor of [X Y]."""
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    m, p = x.shape
    factor = np.linalg.qr(np.hstack([x, y]), mode="r")
    residual = factor[:, p:] - factor[:, :p] @ slopes
    white = pt.linalg.solve_triangular(chol, residual.T, lower=True, b_ndim=2)
    logdet = 2 * pt.log(pt.diagonal(chol)).sum()
    constant = m * y.shape[1] * np.log(2 * np.pi)
    pm.Potential("y", -((white**2).sum() + m * logdet + constant) / 2)


def in_turns(functions: list) -> list[float]:
    """Median milliseconds of each of some functions of the same point, which give the same.

    Of some milliseconds of calls at a time, between which the others have their turns.
    """
    import numpy as np

    point, turns = np.full(20 + 15, 0.1), [[] for _ in functions]
    expected, *others = [function(point) for function in functions]
    for found in others:
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-6)
    calls = [1 + int(0.005 / _seconds(function, point, 3)) for function in functions]
    for _ in range(25):
        for function, count, own in zip(functions, calls, turns, strict=True):
            own.append(_seconds(function, point, count))
    return [1e3 * float(np.median(own)) for own in turns]


def _seconds(function, point, calls: int) -> float:
    """Of a call, in the time of this thread: others may be at work."""
    start = time.thread_time()
    for _ in range(calls):
        function(point)
    return (time.thread_time() - start) / calls


def linear_rows(m: int) -> str:
    """A row of the table of regressions: arrays, ``pm.Data``, by hand, ``pm.MvNormal``."""
    import pymc as pm

    import pm_gaussgrad as gg

    densities = [*[of_library(gg, "linear")] * 2, by_hand, of_library(pm, "linear")]
    functions = [regression(m, density, data=i == 1) for i, density in enumerate(densities)]
    ours, data, hand, theirs = in_turns(functions)
    cells = [f"{m:,}", f"{ours:.4f}", f"{data:.4f}", f"{hand:.4f}", f"{theirs:.3f}"]
    cells += [f"{ours / hand:.2f}", f"{theirs / ours:.0f}", f"{theirs / data:.1f}"]
    return f"| {' | '.join(cells)} |"


def nonlinear_rows(m: int, spelling: str) -> str:
    """A row of the table of means tanh(X B), as chol=, cov= or tau=."""
    import pymc as pm

    import pm_gaussgrad as gg

    ours, theirs = in_turns(
        [regression(m, of_library(library, "tanh", spelling)) for library in (gg, pm)]
    )
    return f"| {m:,} | `{spelling}=` | {ours:.3f} | {theirs:.3f} | {theirs / ours:.2f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data_shapes")
    parser.add_argument("structures", nargs="*", metavar="STRUCTURE")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
    with tempfile.TemporaryDirectory(prefix="gaussgrad_shapes_") as cache:
        prepare_process(cache)
        print(f"| structure | n | ms | 5 % missing | {ROWS} rows, ms | rows that differ |")
        print("|---|---:|---:|---:|---:|---:|")
        for shape in shapes():
            if not options.structures or shape.name in options.structures:
                print(gaps(shape), flush=True)
        if options.structures:
            return
        import numpy as np

        print("\n| groups | n | ms | ns an observation |\n|---|---:|---:|---:|")
        for shape in groups():
            y = np.random.default_rng(SEED).normal(size=shape.n)
            found = milliseconds(shape, y)
            cells = f"`{shape.name}` | {shape.n:,} | {found:.3f} | {1e6 * found / shape.n:.0f}"
            print(f"| {cells} |", flush=True)
        print("\n| rows, mean X B | ms | `pm.Data`, ms | by hand, ms | `pm.MvNormal`, ms ", end="")
        print("| by hand | `pm` | `pm.Data`, `pm` |\n|---:|---:|---:|---:|---:|---:|---:|---:|")
        for m in (2000, 20_000, 200_000):
            print(linear_rows(m), flush=True)
        print("\n| rows, mean tanh(X B) | | ms | `pm.MvNormal`, ms | times as fast |")
        print("|---:|---|---:|---:|---:|")
        for m in (2000, 20_000, 200_000):
            for spelling in ("chol", "cov", "tau"):
                print(nonlinear_rows(m, spelling), flush=True)


if __name__ == "__main__":
    main()
