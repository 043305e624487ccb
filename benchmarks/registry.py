"""The registry: one builder and one row a case, here or in the file of a structure."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pm_gaussgrad as gg
from benchmarks import (
    blocks,
    eigen,
    kronecker,
    low_rank,
    repeated_measures,
    student,
    sums,
    toeplitz,
)
from benchmarks.case import At, Case, Problem, compile_value_and_gradient, of_models
from benchmarks.floor import dense_floor

SEED = 20260101


def _squared_exponential(parameters, squared_distance):
    eta, lengthscale, sigma = parameters
    n = squared_distance.shape[0]
    smooth = eta**2 * pt.exp(-0.5 * squared_distance / lengthscale**2)
    return smooth + sigma**2 * np.eye(n)


def _squared_distances(n):
    x = np.linspace(0, 10, n)
    return (x[:, None] - x) ** 2


def gaussian_process(n, rows):
    """Squared-exponential kernel and noise, three kernel parameters and a constant mean."""
    y = np.random.default_rng(SEED).standard_normal(n)
    squared_distance = _squared_distances(n)

    def model(likelihood):
        with pm.Model() as model:
            mean = pm.Normal("mean")
            kernel = [pm.HalfNormal(name) for name in ("eta", "lengthscale", "sigma")]
            cov = _squared_exponential(kernel, squared_distance)
            likelihood("y", mean * np.ones(n), cov=cov, observed=y)
        return model

    def floor():
        return dense_floor(lambda p: _squared_exponential(p, squared_distance), [0.9, 1.1, 0.8])

    return of_models(model, gg.MvNormal, pm.MvNormal, floor)


def many_rows(n, rows):
    """Many rows of data, a mean vector, an LKJ prior for the factor of the covariance."""
    rng = np.random.default_rng(SEED)
    y = rng.standard_normal((rows, n)) @ rng.standard_normal((n, n)) + np.arange(n)

    def model(likelihood):
        with pm.Model() as model:
            mean = pm.Normal("mean", shape=n)
            chol, _, _ = pm.LKJCholeskyCov("chol", n=n, eta=2, sd_dist=pm.HalfNormal.dist(2))
            likelihood("y", mean, chol=chol, observed=y)
        return model

    return of_models(model, gg.MvNormal, pm.MvNormal)


def free_factor(n, rows):
    """The factor itself a free variable of a model; PyMC takes no notice of its triangle."""
    rng = np.random.default_rng(SEED)
    y, lower = rng.standard_normal(n), np.tri(n).ravel()
    factor = lower * (2 * np.eye(n) + 0.3 * rng.standard_normal((n, n)) / np.sqrt(n)).ravel()

    def model(likelihood):
        with pm.Model() as model:
            chol = pm.Flat("chol", shape=(n, n), initval=2 * np.eye(n))
            likelihood("y", np.zeros(n), chol=chol, observed=y)
        return model

    problem = of_models(model, gg.MvNormal, pm.MvNormal)

    def peer():
        # Its gradient has entries above the diagonal, where a factor has none.
        function = problem.peer()

        def lower_gradient(point):
            value, gradient = function(point)
            return value, gradient * lower

        return lower_gradient

    return Problem(problem.ours, peer, (factor,))


def cholesky_factor(n, rows):
    """Differentiate with respect to the factor itself, recognised by PyMC's rewrites."""
    chol, y = pt.matrix("chol", shape=(n, n)), pt.vector("y", shape=(n,))
    mu = np.zeros(n)
    rng = np.random.default_rng(SEED)
    factor = np.tril(rng.standard_normal((n, n)) / np.sqrt(n), -1) + np.diag(rng.uniform(1, 2, n))

    def ours():
        logp = gg.logp(y, mu, gg.cov.Cholesky(chol))
        return compile_value_and_gradient([chol, y], logp, [chol])

    def peer():
        logp = pm.logp(pm.MvNormal.dist(mu, chol=chol), y)
        return compile_value_and_gradient([chol, y], logp, [chol])

    return Problem(ours, peer, (factor, rng.standard_normal(n)))


def precision(n, rows):
    """Fill in the precision matrix of an AR(1) process from two parameters."""
    y = np.random.default_rng(SEED).standard_normal(n)
    inner = np.eye(n)
    inner[0, 0] = inner[-1, -1] = 0
    beside = np.eye(n, k=1) + np.eye(n, k=-1)

    def model(likelihood):
        with pm.Model() as model:
            # Where rho^n underflows, LAPACK crawls through subnormal numbers on both sides.
            rho = pm.Uniform("rho", 0.9, 1)
            sigma = pm.HalfNormal("sigma")
            tau = (np.eye(n) + rho**2 * inner - rho * beside) / (sigma**2 * (1 - rho**2))
            likelihood("y", np.zeros(n), tau=tau, observed=y)
        return model

    return of_models(model, gg.MvNormal, pm.MvNormal)


def diagonal(n, rows):
    """Independent observations with one mean and one variance."""
    y = np.random.default_rng(SEED).standard_normal(n)

    def model(likelihood):
        with pm.Model() as model:
            likelihood(pm.Normal("mean"), pm.HalfNormal("sigma"), y)
        return model

    def ours(mean, sigma, y):
        gg.MvNormal("y", mean, gg.cov.Diagonal(sigma**2, size=n), observed=y)

    def peer(mean, sigma, y):
        pm.Normal("y", mean, sigma, observed=y)

    return of_models(model, ours, peer)


def constant_covariance(n, rows):
    """Regression with a known covariance: parameters in the mean only."""
    rng = np.random.default_rng(SEED)
    y, X = rng.standard_normal(n), rng.standard_normal((n, 5))
    cov = np.exp(-0.5 * _squared_distances(n)) + 0.5 * np.eye(n)

    def model(likelihood):
        with pm.Model() as model:
            beta = pm.Normal("beta", shape=5)
            likelihood("y", X @ beta, cov=cov, observed=y)
        return model

    return of_models(model, gg.MvNormal, pm.MvNormal)


def batches(n, rows):
    """As many covariances as rows, each with a length scale of its own."""
    y = np.random.default_rng(SEED).standard_normal((rows, n))
    squared_distance = _squared_distances(n)

    def model(likelihood):
        with pm.Model() as model:
            lengthscale = pm.HalfNormal("lengthscale", shape=rows)
            sigma = pm.HalfNormal("sigma")
            smooth = pt.exp(-0.5 * squared_distance / lengthscale[:, None, None] ** 2)
            cov = smooth + sigma**2 * np.eye(n)
            likelihood("y", np.zeros((rows, n)), cov=cov, observed=y)
        return model

    return of_models(model, gg.MvNormal, pm.MvNormal)


CASES = (
    Case(
        name="dense",
        title="Gaussian process, squared-exponential kernel and noise",
        peer="pm.MvNormal(cov=)",
        build=gaussian_process,
        sizes=(
            At(3, bar=1.0),
            At(10, bar=1.0),
            At(50, bar=1.0),
            At(200),
            At(500, bar=2.3, floor_bar=1.5),
            At(1000, bar=2.6, floor_bar=1.5),
            At(2000, bar=3.0, floor_bar=1.5),
        ),
    ),
    Case(
        name="rows",
        title="many rows with one mean and one covariance, LKJ prior",
        peer="pm.MvNormal(chol=)",
        build=many_rows,
        sizes=(At(5, 1_000), At(5, 10_000), At(5, 100_000, bar=500.0)),
        value_rtol=1e-10,
    ),
    Case(
        name="free factor",
        title="value and gradient of a Cholesky factor that is a free variable",
        peer="pm.MvNormal(chol=)",
        build=free_factor,
        sizes=(At(10), At(100, bar=1.0), At(1000, bar=4.0)),
    ),
    Case(
        name="cholesky",
        title="value and gradient of the Cholesky factor itself",
        peer="pm.MvNormal(chol=)",
        build=cholesky_factor,
        sizes=(At(10), At(100, bar=1.0), At(1000, bar=4.0)),
    ),
    Case(
        name="precision",
        title="AR(1) precision matrix, dense",
        peer="pm.MvNormal(tau=)",
        build=precision,
        sizes=(At(100), At(500), At(1000)),
    ),
    Case(
        name="diagonal",
        title="independent observations",
        peer="pm.Normal",
        build=diagonal,
        sizes=(At(1_000), At(10_000), At(100_000)),
    ),
    Case(
        name="constant",
        title="constant covariance, parameters in the mean",
        peer="pm.MvNormal(cov=)",
        build=constant_covariance,
        sizes=(At(100), At(300), At(1000)),
    ),
    Case(
        name="batches",
        title="a covariance for every row",
        peer="pm.MvNormal(cov=)",
        build=batches,
        sizes=(At(10, 5), At(10, 50), At(10, 500)),
    ),
    *low_rank.CASES,
    *eigen.CASES,
    *blocks.CASES,
    *toeplitz.CASES,
    *kronecker.CASES,
    *repeated_measures.CASES,
    *student.CASES,
    *sums.CASES,
)
