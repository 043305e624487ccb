"""Models of PyMC as they are written, beside the same accelerated.

    python -m benchmarks.accelerate                 # all of them; some ten minutes
    python -m benchmarks.accelerate process areas   # some

Printed are microseconds of a log density with its gradient, medians of a second each, one model
after the other in one process, and what the variable became.
"""

import sys
import tempfile
import warnings

import numpy as np

from benchmarks.__main__ import prepare_process

SEED = 20261128


def regression(pm, rng):
    """10,000 rows of 4 outcomes and 3 covariates, LKJ."""
    x, y = rng.normal(size=(10_000, 3)), rng.normal(size=(10_000, 4))
    chol = _lkj(pm, 4)
    pm.MvNormal("y", x @ pm.Normal("beta", shape=(3, 4)), chol=chol, observed=y)


def slopes(pm, rng):
    """Latent intercepts and slopes of 80 groups, 800 rows, LKJ."""
    group, x = np.repeat(np.arange(80), 10), rng.normal(size=800)
    u = pm.MvNormal("u", np.zeros(2), chol=_lkj(pm, 2), shape=(80, 2))
    mean = u[group, 0] + u[group, 1] * x
    pm.Normal("y", mean, pm.HalfNormal("noise"), observed=rng.normal(size=800))


def process(pm, rng):
    """``pm.gp.Marginal``, n = 1,000."""
    x = np.sort(rng.uniform(0, 10, 1000))[:, None]
    made = pm.gp.Marginal(cov_func=_kernel(pm, "Matern52"))
    noise = pm.HalfNormal("noise")
    made.marginal_likelihood("y", X=x, y=rng.normal(size=1000), sigma=noise)


def latent(pm, rng):
    """``pm.gp.Latent``, centred, counts at 200 places."""
    x = np.sort(rng.uniform(0, 10, 200))[:, None]
    f = pm.gp.Latent(cov_func=_kernel(pm, "Matern32")).prior("f", X=x, reparameterize=False)
    pm.Poisson("y", pm.math.exp(f), observed=rng.poisson(1, 200))


def grid(pm, rng):
    """``pm.gp.MarginalKron``, 40 x 40."""
    x = np.linspace(0, 1, 40)[:, None]
    kernels = [pm.gp.cov.Matern52(1, pm.HalfNormal(f"length{i}")) for i in range(2)]
    made = pm.gp.MarginalKron(cov_funcs=kernels)
    noise = pm.HalfNormal("noise")
    made.marginal_likelihood("y", Xs=[x, x], y=rng.normal(size=1600), sigma=noise)


def areas(pm, rng):
    """``pm.CAR`` on a lattice of 20 x 20, counts."""
    path, one = np.eye(20, k=1) + np.eye(20, k=-1), np.eye(20)
    weights = np.kron(path, one) + np.kron(one, path)
    alpha, tau = pm.Uniform("alpha", 0, 1), pm.HalfNormal("tau")
    f = pm.CAR("f", np.zeros(400), weights, alpha, tau)
    pm.Poisson("y", pm.math.exp(f), observed=rng.poisson(1, 400))


def factors(pm, rng):
    """A factor model, 60 variables, 3 factors, 100 rows."""
    loadings, d = pm.Normal("loadings", shape=(60, 3)), pm.HalfNormal("d", shape=60)
    cov = loadings @ loadings.T + np.eye(60) * d**2
    pm.MvNormal("y", np.zeros(60), cov=cov, observed=rng.normal(size=(100, 60)))


def precision(pm, rng):
    """A precision matrix of 30 variables, 500 rows."""
    tau = 2 * np.eye(30) + pm.HalfNormal("q") * np.ones((30, 30)) / 30
    pm.MvNormal("y", np.zeros(30), tau=tau, observed=rng.normal(size=(500, 30)))


def outliers(pm, rng):
    """``pm.MvStudentT``, 4 outcomes, 1,000 rows, scales and fixed correlations."""
    s = pm.HalfNormal("s", shape=4)
    scale = s[:, None] * (np.eye(4) + 0.5) * s[None, :]
    y = rng.normal(size=(1000, 4))
    pm.MvStudentT("y", nu=np.array(5.0), mu=np.zeros(4), scale=scale, observed=y)


def two(pm, rng):
    """A single row of 3, a matrix: as small as it gets."""
    cov = np.eye(3) + pm.HalfNormal("s") * np.ones((3, 3))
    pm.MvNormal("y", pm.Normal("m", shape=3), cov=cov, observed=rng.normal(size=3))


MODELS = [regression, slopes, process, latent, grid, areas, factors, precision, outliers, two]


def _lkj(pm, n):
    return pm.LKJCholeskyCov("chol", n=n, eta=2, sd_dist=pm.Exponential.dist(1.0))[0]


def _kernel(pm, name):
    return pm.HalfNormal("scale") ** 2 * getattr(pm.gp.cov, name)(1, pm.HalfNormal("length"))


def main(names):
    with tempfile.TemporaryDirectory() as cache:
        prepare_process(cache)
        compare(names)


def compare(names):
    """Time the models of some names, or all."""
    import pymc as pm

    import pm_gaussgrad as gg

    warnings.simplefilter("ignore")
    for build in MODELS:
        if names and build.__name__ not in names:
            continue
        with pm.Model() as model:
            build(pm, np.random.default_rng(SEED))
        report = gg.acceleration_report(gg.accelerate(model))
        found, [plan] = report.measure(), report.plans.values()
        before, after = found["before"] * 1e6, found["after"] * 1e6
        line = f"{build.__doc__:70} {before:9.1f} {after:9.1f}  x{found['ratio']:5.2f}"
        print(f"{line}  {plan.label}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
