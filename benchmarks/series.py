"""Processes in time against celerite2's PyMC interface, and many series in one call.

    python -m benchmarks.series [n ...]     # CPU nanoseconds an observation, beside celerite2
    python -m benchmarks.series --panel     # 1,000 series of 100 beside one of 100,000

Log density and gradient, medians, in one process. celerite2 is no dependency: without it, as with
``pip install celerite2``, there is no second column. Its Matern 3/2 is an approximation. The panel
is timed in turns with the long series; the bar of its ratio is 1.2.
"""

import sys
import time
import warnings

import numpy as np
import pymc as pm

import pm_gaussgrad as gg

SEED, REPETITIONS = 20260112, 15
MODELS = ("matern32", "sho", "three")


def series(n):
    """Irregular times and numbers that no model is right for."""
    rng = np.random.default_rng(SEED)
    return np.cumsum(rng.uniform(0.01, 0.05, n)), rng.standard_normal(n)


def model(name, n, peer=None, group=None):
    """A sum of processes with noise; ``peer`` is celerite2's PyMC module."""
    times, y = series(n)
    with pm.Model() as built:
        sigma, rho, noise = pm.HalfNormal("sigma"), pm.HalfNormal("rho"), pm.HalfNormal("noise")
        quality = 0.6 + pm.HalfNormal("quality") if name != "matern32" else None
        if peer is None:
            terms = {
                "matern32": lambda k: gg.cov.Matern32(sigma, k * rho, times, group),
                "sho": lambda k: gg.cov.SHO(sigma, k * rho, quality, times, group),
            }
        else:
            terms = {
                "matern32": lambda k: peer.terms.Matern32Term(sigma=sigma, rho=k * rho),
                "sho": lambda k: peer.terms.SHOTerm(sigma=sigma, rho=k * rho, Q=quality),
            }
        chosen = ["sho", "sho", "matern32"] if name == "three" else [name]
        kernel = sum((terms[term](k) for k, term in enumerate(chosen[1:], 2)), terms[chosen[0]](1))
        if peer is None:
            gg.MvNormal("y", 0, kernel + gg.cov.Diagonal(noise**2, size=n), observed=y)
        else:
            process = peer.GaussianProcess(kernel, t=times, diag=noise**2 * np.ones(n), quiet=True)
            process.marginal("y", observed=y)
    return built


def compiled_function(built):
    """A call of log density and gradient, and CPU seconds of its compilation."""
    start = time.process_time()
    point = built.initial_point()
    function = built.logp_dlogp_function(ravel_inputs=True, initial_point=point)
    function.set_extra_values({})
    values = np.zeros(sum(np.size(x) for x in point.values()))
    function(values)
    return lambda: function(values), time.process_time() - start


def seconds(*calls):
    """Median CPU time of each, called in turns."""
    taken = []
    for _ in range(REPETITIONS):
        for call in calls:
            start = time.thread_time()
            call()
            taken.append(time.thread_time() - start)
    return np.median(np.reshape(taken, (REPETITIONS, len(calls))), axis=0)


def nanoseconds(built, n):
    """CPU time an observation, and of compilation in seconds."""
    call, compiled = compiled_function(built)
    return seconds(call)[0] / n * 1e9, compiled


def panel(n_series=1000, length=100):
    """Many series in one call, beside one that is as long as all of them."""
    n = n_series * length
    group = np.repeat(np.arange(n_series), length)
    for name in MODELS:
        calls = [compiled_function(model(name, n, group=g))[0] for g in (group, None)]
        many, one = seconds(*calls) / n * 1e9
        print(
            f"{name:9} {n_series} series of {length}: {many:6.1f} ns; one of {n}: {one:6.1f} ns; "
            f"ratio {many / one:.2f}",
            flush=True,
        )


def main(sizes):
    warnings.filterwarnings("ignore", message="Numba will use object mode")
    try:
        import celerite2.pymc as peer
    except ImportError:
        peer = None
    for name in MODELS:
        for n in sizes:
            ours, compiled = nanoseconds(model(name, n), n)
            line = f"{name:9} n = {n:8}: {ours:6.1f} ns, compiled in {compiled:5.1f} CPU-s"
            if peer is not None:
                theirs, _ = nanoseconds(model(name, n, peer), n)
                line += f"; celerite2 {theirs:6.1f} ns, ratio {ours / theirs:.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--panel"]:
        panel()
    else:
        main([int(n) for n in sys.argv[1:]] or [10_000, 100_000, 1_000_000])
