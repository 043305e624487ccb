"""Models as they are written beside the same marginalised and recovered, sampled by NUTS.

    python -m benchmarks.marginalize                        # all of them; an hour
    python -m benchmarks.marginalize schools penicillin     # some
    python -m benchmarks.marginalize --draws 500            # of the marginalised model

Both are sampled by nutpie with its defaults, one after the other in one process; the model as it is
written in rounds, until its least bulk effective sample size exceeds 1,000 or it has had ten.
Printed are effective draws a second of the standard deviation that is sampled least well, without
and with compilation, their ratios and, of all variables after ``gg.recover``, the greatest
difference of means and of standard deviations in units of their Monte Carlo errors.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks.__main__ import prepare_process

SEED = 20261128
DATA = Path(__file__).parent.parent / "examples" / "data"
ROUNDS, LEAST = 10, 1000


def schools(pm, rng):
    """Eight schools, not centred."""
    y, sd = np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    mu, tau = pm.Normal("mu", 0, 5.0), pm.HalfCauchy("tau", 5.0)
    theta = pm.Deterministic("theta", mu + tau * pm.Normal("z", shape=8))
    pm.Normal("y", theta, sd, observed=y)


def intercepts(pm, rng):
    """Radon-like: 919 rows in 85 counties, a covariate."""
    county, floor = rng.integers(85, size=919), rng.integers(2, size=919)
    y = 1.5 + 0.3 * rng.normal(size=85)[county] - 0.6 * floor + 0.7 * rng.normal(size=919)
    mu, tau = pm.Normal("mu", 0, 5.0), pm.HalfNormal("tau", 1.0)
    a, b = pm.Normal("a", mu, tau, shape=85), pm.Normal("b", 0, 2.0)
    pm.Normal("y", a[county] + b * floor, pm.HalfNormal("noise", 1.0), observed=y)


def slopes(pm, rng):
    """Sleepstudy: correlated intercepts and slopes of 18 drivers."""
    import pandas as pd
    import pytensor.tensor as pt

    table = pd.read_csv(DATA / "sleepstudy.csv")
    driver, day = pd.factorize(table["Subject"])[0], table["Days"].to_numpy(float)
    sd = pm.HalfNormal.dist(50.0, size=2)
    chol, _, _ = pm.LKJCholeskyCov("effects", n=2, eta=2, sd_dist=sd)
    beta = pm.Normal("beta", [250.0, 0.0], [100.0, 30.0], shape=2)
    u = pm.Deterministic("u", pm.Normal("z", shape=(18, 2)) @ chol.T)
    mean = pt.sum((beta + u[driver]) * np.column_stack([np.ones(day.size), day]), axis=1)
    pm.Normal("y", mean, pm.HalfNormal("noise", 50.0), observed=table["Reaction"])


def penicillin(pm, rng):
    """Penicillin: plates and samples, crossed."""
    import pandas as pd

    table = pd.read_csv(DATA / "penicillin.csv")
    plate, sample = (pd.factorize(table[name])[0] for name in ("plate", "sample"))
    mu, noise = pm.Normal("mu", 20, 10.0), pm.HalfNormal("noise", 2.0)
    a = pm.HalfNormal("sd_plate", 2.0) * pm.Normal("plate", shape=24)
    b = pm.HalfNormal("sd_sample", 4.0) * pm.Normal("sample", shape=6)
    pm.Normal("y", mu + a[plate] + b[sample], noise, observed=table["diameter"])


def nested(pm, rng):
    """Batches of 3 casks each, 2 measurements of a cask."""
    batch, cask = np.repeat(np.arange(10), 6), np.repeat(np.arange(30), 2)
    y = 60 + rng.normal(size=10)[batch] + 2.5 * rng.normal(size=30)[cask] + rng.normal(size=60)
    mu, noise = pm.Normal("mu", 60, 10.0), pm.HalfNormal("noise", 3.0)
    of_batch = pm.Normal("batch", mu, pm.HalfNormal("sd_batch", 3.0), shape=10)
    of_cask = pm.Normal("cask", of_batch[np.arange(30) // 3], pm.HalfNormal("sd", 3.0), shape=30)
    pm.Normal("y", of_cask[cask], noise, observed=y)


def smooth(pm, rng):
    """A smooth term of 20 radial functions, 300 rows."""
    x = rng.uniform(size=300)
    basis = np.exp(-0.5 * ((x[:, None] - np.linspace(0, 1, 20)) / 0.06) ** 2)
    y = np.sin(6 * x) + 0.3 * rng.normal(size=300)
    w = pm.Normal("w", 0, pm.HalfNormal("sd", 1.0), shape=20)
    noise = pm.HalfNormal("noise", 1.0)
    pm.Normal("y", pm.Normal("mu", 0, 5.0) + basis @ w, noise, observed=y)


def coefficients(pm, rng):
    """A regression with 50 coefficients, 400 rows."""
    x = rng.normal(size=(400, 50))
    y = x @ (0.3 * rng.normal(size=50)) + rng.normal(size=400)
    beta = pm.Normal("beta", 0, pm.HalfNormal("sd", 1.0), shape=50)
    pm.Normal("y", pm.Normal("mu", 0, 5.0) + x @ beta, pm.HalfNormal("noise", 2.0), observed=y)


def crossed(pm, rng):
    """5,000 rows of 200 and 60 levels, crossed."""
    i, j = rng.integers(200, size=5000), rng.integers(60, size=5000)
    y = 0.5 * rng.normal(size=200)[i] + 0.3 * rng.normal(size=60)[j] + rng.normal(size=5000)
    a = pm.Normal("a", 0, pm.HalfNormal("sd_a", 1.0), shape=200)
    b = pm.Normal("b", 0, pm.HalfNormal("sd_b", 1.0), shape=60)
    mean = pm.Normal("mu", 0, 5.0) + a[i] + b[j]
    pm.Normal("y", mean, pm.HalfNormal("noise", 2.0), observed=y)


def process(pm, rng):
    """A Gaussian process at 80 places and a linear trend."""
    x = np.sort(rng.uniform(0, 10, 80))
    y = 0.5 * x + np.sin(x) + 0.3 * rng.normal(size=80)
    kernel = pm.HalfNormal("sd", 1.0) ** 2 * pm.gp.cov.Matern52(1, pm.Gamma("length", 4, 2.0))
    f = pm.gp.Latent(cov_func=kernel).prior("f", X=x[:, None])
    mean = pm.Normal("mu", 0, 5.0) + pm.Normal("b", 0, 2.0) * x + f
    pm.Normal("y", mean, pm.HalfNormal("noise", 1.0), observed=y)


def walk(pm, rng):
    """A random walk of 100 steps, and noise."""
    y = np.cumsum(0.3 * rng.normal(size=100)) + 0.5 * rng.normal(size=100)
    start = pm.Normal.dist(0, 5.0)
    level = pm.GaussianRandomWalk(
        "level", sigma=pm.HalfNormal("sd", 1.0), init_dist=start, steps=99
    )
    pm.Normal("y", level, pm.HalfNormal("noise", 1.0), observed=y)


MODELS = [
    *(schools, intercepts, slopes, penicillin, nested, smooth, coefficients, crossed),
    *(process, walk),
]


def compared(gg, model, draws):
    """Effective draws a second of both, and differences of all variables."""
    import arviz as az

    started = time.process_time()
    new = gg.marginalize(model)
    ours = sampled(new, draws, 1, time.process_time() - started)
    gg.recover(ours["idata"], new, random_seed=SEED, progressbar=False)
    scales = [x.name for x in new.free_RVs if str(x.owner.op).startswith(("Half", "_LKJ", "half"))]
    theirs = sampled(model, draws, ROUNDS, 0.0)
    for each in (ours, theirs):
        effective = az.ess(each["idata"], var_names=scales)
        least = min(float(x.min()) for x in effective.dataset.data_vars.values())
        each["rate"] = least / each["sampling"]
        each["whole"] = least / (each["sampling"] + each["compiling"])
    return ours, theirs, differences(az, ours["idata"], theirs["idata"])


def sampled(model, draws, rounds, compiling):
    """Draws of two chains, and CPU seconds of compilation and of sampling."""
    import arviz as az
    import nutpie
    import xarray as xr

    started = time.process_time()
    compiled = nutpie.compile_pymc_model(model)
    compiling += time.process_time() - started
    parts, started, names = [], time.process_time(), [x.name for x in model.free_RVs]
    for i in range(rounds):
        options = {"draws": draws, "tune": 1000 if i == 0 else 500, "chains": 2, "cores": 1}
        idata = nutpie.sample(compiled, **options, seed=SEED + i, progress_bar=False)
        parts.append(idata["posterior"].to_dataset())
        both = xr.concat(parts, dim="draw").assign_coords(draw=np.arange(draws * (i + 1)))
        effective = az.ess(both, var_names=names)
        if min(float(x.min()) for x in effective.data_vars.values()) > LEAST:
            break
    found = xr.DataTree.from_dict({"posterior": both})
    return {"idata": found, "compiling": compiling, "sampling": time.process_time() - started}


def differences(az, one, other):
    """Of means and standard deviations of what both have, in units of Monte Carlo errors."""
    a, b = (x["posterior"].to_dataset() for x in (one, other))
    names = [name for name in b.data_vars if name in a.data_vars]
    found = []
    for how, method in (("mean", "mean"), ("std", "sd")):
        errors = [az.mcse(x[names], method=method) for x in (a, b)]
        values = [getattr(x[names], how)(["chain", "draw"]) for x in (a, b)]
        parts = []
        for name in names:
            size = np.sqrt(errors[0][name] ** 2 + errors[1][name] ** 2)
            z = np.abs(values[0][name] - values[1][name]) / size
            parts.append(float(np.nanmax(z)))
        found.append(max(parts))
    return found


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.marginalize", description=__doc__)
    parser.add_argument("models", nargs="*", choices=[[], *(x.__name__ for x in MODELS)])
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaussgrad_marginalize_") as cache:
        prepare_process(cache)
        import pymc as pm

        import pm_gaussgrad as gg

        warnings.simplefilter("ignore")
        ratios = []
        for build in MODELS:
            if options.models and build.__name__ not in options.models:
                continue
            with pm.Model() as model:
                build(pm, np.random.default_rng(SEED))
            ours, theirs, (means, deviations) = compared(gg, model, options.draws)
            ratios.append([ours[k] / theirs[k] for k in ("rate", "whole")])
            alone, whole = ratios[-1]
            print(f"{build.__doc__:55} {ours['rate']:8.1f} {theirs['rate']:8.1f} x{alone:6.2f}")
            spent = f"{ours['compiling']:.0f} and {theirs['compiling']:.0f} CPU-s"
            print(f"    with compilation x{whole:6.2f} ({spent})")
            print(f"    means {means:.1f}, deviations {deviations:.1f}", flush=True)
        print("geometric mean", np.exp(np.mean(np.log(ratios), axis=0)).round(2))


if __name__ == "__main__":
    main()
