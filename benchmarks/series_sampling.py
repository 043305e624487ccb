"""A process in time sampled by NUTS, beside celerite2's PyMC interface.

    python -m benchmarks.series_sampling                # some minutes
    python -m benchmarks.series_sampling --draws 100    # fewer draws and tuning steps
    python -m benchmarks.series_sampling --every 4      # of the layers

The data are those of ``examples/irregular_series.py``, the model two ``SHO`` and noise by layer,
seven parameters. (Of a Matern process celerite2 has an approximation only, and of three ``SHO`` its
gradient, version 0.3.3, is not that of its value.) Both sides have the same priors, data, seeds and
lengths, one chain, and are run in one process, by nutpie and by PyMC's own NUTS. celerite2's
operations are Python to numba; they are called as objects. celerite2 is no dependency: ``pip
install celerite2``.

Printed are the least bulk effective sample size of the parameters, the CPU seconds of compilation
and of sampling, effective draws a second without and with compilation, and the ratio of both; the
bar is 3. The last lines compare posterior means, in Monte Carlo errors.
"""

import argparse
import logging
import tempfile
import time
import warnings
from pathlib import Path

from benchmarks.__main__ import prepare_process

SEED = 20260112
DATA = Path(__file__).parent.parent / "examples" / "data" / "epica_dome_c.csv"


def layers(every):
    """Times in thousand years, ascending, thousand years of a layer, and temperatures."""
    import numpy as np
    import pandas as pd

    table = pd.read_csv(DATA).iloc[::-every]
    times = -table["age"].to_numpy() / 1000
    return times, np.gradient(times), table["temperature"].to_numpy()


def model(every, peer=None):
    """Two oscillators and noise; ``peer`` is celerite2's PyMC module."""
    import numpy as np
    import pymc as pm

    import pm_gaussgrad as gg

    times, years, y = layers(every)
    with pm.Model() as built:
        mean = pm.Normal("mean", -5, 5)
        sd = pm.HalfNormal("sd", 3, shape=2)
        period = pm.LogNormal("period", np.log([100, 5]), [0.15, 1])
        quality, noise = pm.LogNormal("quality", np.log(4), 0.5), pm.HalfNormal("noise", 0.5)
        terms = [(sd[0], period[0], quality), (sd[1], period[1], 0.5**0.5)]
        variance = noise**2 / years
        if peer is None:
            cov = sum((gg.cov.SHO(*term, times) for term in terms), gg.cov.Diagonal(variance))
            gg.MvNormal("y", mean, cov, observed=y)
        else:
            kernels = [peer.terms.SHOTerm(sigma=s, rho=r, Q=q) for s, r, q in terms]
            kernel = kernels[0] + kernels[1]
            options = {"mean": mean, "t": times, "diag": variance, "quiet": True}
            peer.GaussianProcess(kernel, **options).marginal("y", observed=y)
    return built


def by_nutpie(built, draws):
    """Posterior draws, CPU seconds of compilation and of sampling."""
    import nutpie

    start = time.process_time()
    compiled = nutpie.compile_pymc_model(built)
    options = {"chains": 1, "cores": 1, "seed": SEED, "progress_bar": False}
    nutpie.sample(compiled, draws=1, tune=1, **options)  # some is compiled when it is called
    compilation, start = time.process_time() - start, time.process_time()
    trace = nutpie.sample(compiled, draws=draws, tune=draws, **options)
    return trace, compilation, time.process_time() - start


def by_pymc(built, draws):
    """The same, of PyMC's own NUTS; what a second run of one draw takes is no sampling."""
    import pymc as pm

    taken, trace = [], None
    options = {"chains": 1, "cores": 1, "random_seed": SEED, "progressbar": False}
    options |= {"nuts_sampler": "pymc", "compute_convergence_checks": False}
    for length in (1, 1, draws):
        start = time.process_time()
        with built:
            trace = pm.sample(length, tune=length, **options)
        taken.append(time.process_time() - start)
    cold, warm, whole = taken
    return trace, cold, whole - warm


SAMPLERS = {"nutpie": by_nutpie, "pymc": by_pymc}


def measure(sampler, built, draws):
    """Summary of the parameters, CPU seconds of compilation and of sampling."""
    import arviz as az

    trace, compilation, sampling = SAMPLERS[sampler](built, draws)
    names = ["mean", "sd", "period", "quality", "noise"]
    return az.summary(trace, var_names=names, round_to="none"), compilation, sampling


def report(sampler, sides, draws):
    """Print a line for each side, the ratio, and how far the posteriors are apart."""
    import numpy as np

    rates, summaries = [], []
    for side, built in sides.items():
        summary, compilation, sampling = measure(sampler, built, draws)
        sizes = summary["ess_bulk"].astype(float)
        least = sizes.min()
        rates.append([least / sampling, least / (sampling + compilation)])
        summaries.append(summary)
        print(
            f"{sampler:6} {side:9} ESS {least:4.0f} of {sizes.idxmin()}; sampling {sampling:6.1f} "
            f"s, compilation {compilation:5.1f} s; {rates[-1][0]:6.2f} a second, "
            f"{rates[-1][1]:6.2f} with compilation",
            flush=True,
        )
    if len(rates) == 2:
        ratio = np.divide(*rates)
        means, errors = (
            [s[name].to_numpy(float) for s in summaries] for name in ("mean", "mcse_mean")
        )
        apart = np.abs(means[0] - means[1]) / np.hypot(*errors)
        print(
            f"  ratio {ratio[0]:.1f} (3), with compilation {ratio[1]:.1f}; "
            f"means at most {apart.max():.1f} Monte Carlo errors apart",
            flush=True,
        )


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.series_sampling")
    parser.add_argument("--draws", type=int, default=200, help="as many tuning steps before them")
    parser.add_argument("--every", type=int, default=1, help="which of the layers")
    parser.add_argument("--samplers", nargs="+", choices=[*SAMPLERS], default=[*SAMPLERS])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaussgrad_sampling_") as cache:
        prepare_process(cache)
        for message in ("Numba will use object mode", "_CeleriteOp should implement"):
            warnings.filterwarnings("ignore", message=message)
        logging.getLogger("pymc").setLevel(logging.ERROR)
        sides = {"ours": model(options.every)}
        try:
            import celerite2.pymc as peer

            sides["celerite2"] = model(options.every, peer)
        except ImportError:
            print("celerite2 is not installed: ours alone")
        for sampler in options.samplers:
            report(sampler, sides, options.draws)


if __name__ == "__main__":
    main()
