"""Posteriors against reference draws (posteriordb) and deterministic quadrature.

A Gaussian process, the eight schools and the rats, with all Gaussian latent variables integrated
out. Twice: the same quadrature done again with our log densities, and NUTS on ``gg.MvNormal``,
where means agree within four standard errors, those of our draws from their effective size.
"""

import functools

import arviz as az
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from reference_cases import read_json, require
from scipy import stats

import pm_gaussgrad as gg

require("pdb_gp_regr", "pdb_eight_schools", "pdb_rats")

DATA = {
    case: {
        name: np.array(values, dtype=float) for name, values in read_json(case, "data.json").items()
    }
    for case in ("pdb_gp_regr", "pdb_eight_schools", "pdb_rats")
}
REFERENCE = {case: read_json(case) for case in DATA}
TAU_SCALE = 5.0


# The models. Rats: a row a rat; the covariance of the five weighings is common to all.


def gaussian_process():
    data = DATA["pdb_gp_regr"]
    with pm.Model() as model:
        rho = pm.Gamma("rho", 25, 4)
        alpha = pm.HalfNormal("alpha", 2)
        # The name misleads: this is the variance of the noise.
        sigma = pm.HalfNormal("sigma", 1)
        covariance = process_covariance(data["x"], rho, alpha, sigma)
        gg.MvNormal("y", 0, covariance, observed=data["y"])
    return model


def process_covariance(x, rho, alpha, noise_variance):
    squared = (x[:, None] - x[None, :]) ** 2
    return alpha**2 * pt.exp(-squared / (2 * rho**2)) + noise_variance * pt.eye(len(x))


def eight_schools():
    data = DATA["pdb_eight_schools"]
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", TAU_SCALE)
        cov = gg.cov.Diagonal(data["sigma"] ** 2 + tau**2)
        gg.MvNormal("y", mu, cov, observed=data["y"])
    return model


def rat_table():
    """Weights (30 rats, 5 days) and centred days (5,)."""
    data = DATA["pdb_rats"]
    y = data["y"].reshape(5, 30).T
    days = data["x"].reshape(5, 30)[:, 0]
    return y, days - data["xbar"]


def rat_covariance(days, sigma_alpha, sigma_beta, sigma_y):
    ones = np.ones((len(days), len(days)))
    slopes = np.outer(days, days)
    return sigma_alpha**2 * ones + sigma_beta**2 * slopes + sigma_y**2 * np.eye(len(days))


def rats():
    y, days = rat_table()
    with pm.Model() as model:
        mu_alpha, mu_beta = pm.Normal("mu_alpha", 0, 100), pm.Normal("mu_beta", 0, 100)
        scales = [pm.HalfFlat(f"sigma_{name}", initval=1.0) for name in ("alpha", "beta", "y")]
        covariance = rat_covariance(days, *scales)
        gg.MvNormal("weight", mu_alpha + mu_beta * days, covariance, observed=y)
    return model


# Quadrature: the log densities on a grid of parameters, one batch.


def log_axis(low, high, count):
    """Points and weights of the trapezoidal rule on a log scale; the ends carry no mass."""
    points = np.geomspace(low, high, count)
    return points, points * np.log(high / low) / (count - 1)


def linear_axis(low, high, count):
    return np.linspace(low, high, count), np.full(count, (high - low) / (count - 1))


def grid(*axes):
    """Coordinates of all grid points, each of shape (points,)."""
    return [x.ravel() for x in np.meshgrid(*(points for points, _ in axes), indexing="ij")]


def integrate(log_density, *axes):
    """Log evidence, and mean and standard deviation by axis."""
    largest = log_density.max()
    mass = np.exp(log_density - largest)
    for weights in np.meshgrid(*(weights for _, weights in axes), indexing="ij"):
        mass = mass * weights.ravel()
    moments = []
    for x in grid(*axes):
        mean = (mass * x).sum() / mass.sum()
        moments.append((mean, np.sqrt((mass * (x - mean) ** 2).sum() / mass.sum())))
    return largest + np.log(mass.sum()), moments


def on_grid(axes, log_likelihood):
    """Evaluate a symbolic log-likelihood, one value a grid point, at all of them."""
    symbols = [pt.dvector() for _ in axes]
    return pytensor.function(symbols, log_likelihood(*symbols))(*grid(*axes))


def process_quadrature():
    data = DATA["pdb_gp_regr"]
    axes = log_axis(1.5, 20, 36), log_axis(0.2, 20, 36), log_axis(0.2, 9, 36)
    log_density = on_grid(
        axes,
        lambda *theta: gg.logp(
            data["y"], 0, process_covariance(data["x"], *(p[:, None, None] for p in theta))
        ),
    )
    rho, alpha, sigma = grid(*axes)
    log_density += stats.gamma.logpdf(rho, 25, scale=1 / 4)
    log_density += stats.halfnorm.logpdf(alpha, scale=2) + stats.halfnorm.logpdf(sigma)
    return ("rho", "alpha", "sigma"), *integrate(log_density, *axes)


def schools_quadrature():
    data = DATA["pdb_eight_schools"]
    axes = linear_axis(-40, 50, 181), log_axis(1e-6, 1e4, 231)
    variances = data["sigma"] ** 2
    log_density = on_grid(
        axes,
        lambda mu, tau: gg.logp(
            data["y"], mu[:, None], gg.cov.Diagonal(variances + tau[:, None] ** 2)
        ),
    )
    mu, tau = grid(*axes)
    log_density += stats.norm.logpdf(mu, scale=5) + stats.halfcauchy.logpdf(tau, scale=TAU_SCALE)
    return ("mu", "tau"), *integrate(log_density, *axes)


def schools_quadrature_without_mean():
    """The mean integrated out too: a dense covariance, diag(sigma^2 + tau^2) + 25 11'."""
    data = DATA["pdb_eight_schools"]
    axes = (log_axis(1e-6, 1e4, 231),)
    identity = np.eye(len(data["y"]))

    def covariance(tau):
        return (data["sigma"] ** 2 + tau[:, None, None] ** 2) * identity + 25.0

    log_density = on_grid(axes, lambda tau: gg.logp(data["y"], 0, covariance(tau)))
    log_density += stats.halfcauchy.logpdf(grid(*axes)[0], scale=TAU_SCALE)
    return ("tau",), *integrate(log_density, *axes)


def rats_quadrature():
    """The two means integrated out: they enter the sum of the 30 rows and no contrast of them."""
    y, days = rat_table()
    contrasts = np.linalg.qr(np.column_stack([np.ones(30), np.eye(30)[:, 1:]]))[0].T @ y
    common = 30 * 100**2 * (1 + np.outer(days, days))
    axes = log_axis(5, 45, 32), log_axis(0.1, 1.7, 32), log_axis(3.8, 10, 32)

    def log_likelihood(*scales):
        covariance = rat_covariance(days, *(s[:, None, None] for s in scales))
        free = gg.logp(contrasts[1:, None, :], 0, gg.cov.Dense(covariance)).sum(axis=0)
        return free + gg.logp(contrasts[0], 0, gg.cov.Dense(covariance + common))

    names = ("sigma_alpha", "sigma_beta", "sigma_y")
    return names, *integrate(on_grid(axes, log_likelihood), *axes)


QUADRATURES = {
    process_quadrature: ("pdb_gp_regr", "log_evidence"),
    schools_quadrature: ("pdb_eight_schools", "log_evidence"),
    schools_quadrature_without_mean: ("pdb_eight_schools", "log_evidence"),
    rats_quadrature: ("pdb_rats", "log_evidence_flat_sigmas"),
}


@pytest.fixture(scope="module", params=QUADRATURES, ids=lambda f: f.__name__)
def quadrature(request):
    """Parameters, log evidence and moments; and the reference."""
    case, key = QUADRATURES[request.param]
    return *request.param(), REFERENCE[case], key


def test_log_evidence(quadrature):
    _, log_evidence, _, reference, key = quadrature
    np.testing.assert_allclose(log_evidence, reference["quadrature_info"][key], atol=1e-4)


def test_moments_by_quadrature(quadrature):
    names, _, moments, reference, _ = quadrature
    expected = np.array([list(reference["quadrature"][name].values()) for name in names])
    in_units_of_sd = (np.array(moments) - expected) / expected[:, 1:]
    np.testing.assert_allclose(in_units_of_sd, 0, atol=1e-3)


# Sampling.

MODELS = {
    "pdb_gp_regr": (gaussian_process, 2000),
    "pdb_eight_schools": (eight_schools, 4000),
    "pdb_rats": (rats, 2000),
}
PARAMETERS = [(case, name) for case in MODELS for name in REFERENCE[case]["quadrature"]]
WITH_DRAWS = [(case, name) for case, name in PARAMETERS if name in REFERENCE[case]["summary"]]


def effects_of_schools(posterior):
    """Draws of theta_j given mu and tau: normal, with the precisions added up."""
    data, rng = DATA["pdb_eight_schools"], np.random.default_rng(8)
    variance = 1 / (1 / data["sigma"] ** 2 + 1 / posterior["tau"].to_numpy()[..., None] ** 2)
    shrunk = data["y"] / data["sigma"] ** 2
    shrunk = shrunk + (posterior["mu"] / posterior["tau"] ** 2).to_numpy()[..., None]
    theta = rng.normal(variance * shrunk, np.sqrt(variance))
    return {f"theta[{j + 1}]": theta[..., j] for j in range(8)}


@functools.cache
def draws(case):
    """Draws of one model, (chain, draw) by parameter, and ``diverging``."""
    build, count = MODELS[case]
    with build():
        idata = pm.sample(
            draws=count,
            tune=1000,
            chains=4,
            cores=1,
            nuts_sampler="nutpie",
            target_accept=0.9,
            random_seed=20240917,
            progressbar=False,
        )
    posterior = idata.posterior
    sampled = {name: posterior[name].to_numpy() for name in posterior.data_vars}
    if case == "pdb_eight_schools":
        sampled |= effects_of_schools(posterior)
    return sampled | {"diverging": idata.sample_stats["diverging"].to_numpy()}


@pytest.mark.sampling
@pytest.mark.parametrize("case", MODELS)
def test_no_divergences(case):
    assert draws(case)["diverging"].sum() == 0


@pytest.mark.sampling
@pytest.mark.parametrize(("case", "name"), PARAMETERS)
def test_chains_agree(case, name):
    assert az.rhat(draws(case)[name]) < 1.01
    assert az.ess(draws(case)[name]) > 2000


@pytest.mark.sampling
@pytest.mark.parametrize(("case", "name"), PARAMETERS)
def test_mean_and_sd_against_quadrature(case, name):
    reference, x = REFERENCE[case]["quadrature"][name], draws(case)[name]
    slack = 0.005 * reference["sd"] if case == "pdb_rats" else 0.0
    tolerance = 4 * az.mcse(x, method="mean") + slack
    np.testing.assert_allclose(x.mean(), reference["mean"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(x.std(), reference["sd"], rtol=0.05)


@pytest.mark.sampling
@pytest.mark.parametrize(("case", "name"), WITH_DRAWS)
def test_mean_and_sd_against_reference_draws(case, name):
    reference, x = REFERENCE[case]["summary"][name], draws(case)[name]
    tolerance = 4 * np.hypot(az.mcse(x, method="mean"), reference["mcse_mean"])
    np.testing.assert_allclose(x.mean(), reference["mean"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(x.std(), reference["sd"], rtol=0.05)
