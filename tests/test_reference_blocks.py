"""Autoregressions and block-diagonal covariances against R, Stan, metafor and 120 digits.

lh             y ~ N(mean, AR1(sigma^2 / (1 - phi^2), phi)): R's arima and Stan
Ovary          correlation phi^|t - t'| at irregular times within 11 mares: nlme's gls
Konstantopoulos  known variances, schools within 11 districts: metafor's rma.mv
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, read_columns, read_json, read_matrix, read_npz, require
from registry import interpreted

import pm_gaussgrad as gg

HIGHPREC = ["param_ar1_n40_phi0.5", "param_ar1_n40_phi0.99"]
require("highprec", "ts_lh_ar1", "stan_autodiff", "gls_ovary_car1", "meta_konstantopoulos_3level")


@pytest.fixture(scope="module")
def autoregression():
    """(y, mean, sigma, phi) -> logp and its gradient, by AR1 and through the dense matrix."""
    y, mean, sigma, phi = pt.dvector("y"), *pt.dscalars("mean", "sigma", "phi")
    outputs = []
    for dense in (False, True):
        cov = gg.cov.AR1(sigma**2 / ((1 - phi) * (1 + phi)), phi, size=y.shape[0])
        logp = gg.logp(y, mean, cov.to_dense() if dense else cov)
        outputs += [logp, *pt.grad(logp, [mean, sigma, phi])]
    function = interpreted([y, mean, sigma, phi], outputs)

    def evaluate(*arguments, dense=False):
        logp, *gradient = function(*arguments)[4:] if dense else function(*arguments)[:4]
        return logp, np.array(gradient)

    return evaluate


@pytest.mark.parametrize("name", HIGHPREC)
def test_every_digit_where_the_dense_matrix_loses_some(name, autoregression):
    stored = read_npz("highprec", f"{name}.npz")
    arguments = stored["y"], 0.0, *stored["theta"]
    logp, (_, *gradient) = autoregression(*arguments)
    np.testing.assert_allclose(logp, stored["logp"], rtol=1e-15)
    np.testing.assert_allclose(gradient, stored["dtheta"], rtol=1e-15)
    _, (_, *dense) = autoregression(*arguments, dense=True)
    ours, dense = (np.abs(x / stored["dtheta"] - 1).max() for x in (gradient, dense))
    # Where neighbours are little correlated the dense matrix may lose nothing either.
    assert ours < max(dense, 4 * np.finfo(float).eps)


def test_arima(autoregression):
    expected = read_json("ts_lh_ar1")
    y = np.array(read_columns("ts_lh_ar1")["y"], dtype=float)
    phi, mean = expected["coef"]["ar1"], expected["coef"]["intercept"]
    logp, _ = autoregression(y, mean, np.sqrt(expected["sigma2"]), phi)
    np.testing.assert_allclose(logp, expected["logLik"], rtol=1e-9)
    [point] = expected["points"]
    phi, mean, sigma2 = point["par"]
    logp, (d_mean, d_sigma, d_phi) = autoregression(y, mean, np.sqrt(sigma2), phi)
    np.testing.assert_allclose(logp, point["logp"], rtol=1e-9)
    gradient = [d_phi, d_mean, d_sigma / (2 * np.sqrt(sigma2))]
    np.testing.assert_allclose(gradient, point["grad"], rtol=1e-5)


def test_stan(autoregression):
    expected = read_json("stan_autodiff/ar1_lh")
    y = read_matrix("stan_autodiff/ar1_lh", "y.csv")[:, 0]
    logp, (d_mean, *d_theta) = autoregression(y, expected["beta"], *expected["theta"])
    np.testing.assert_allclose(logp, expected["logp"], rtol=1e-8)
    np.testing.assert_allclose(d_mean, expected["dbeta"], rtol=1e-8)
    np.testing.assert_allclose(d_theta, expected["dtheta"], rtol=1e-8)


@pytest.fixture(scope="module")
def ovary():
    """(beta, sigma, phi) -> logp, its gradient, and the REML criterion."""
    columns = read_columns("gls_ovary_car1")
    time, y = (np.array(columns[name], dtype=float) for name in ("Time", "follicles"))
    mare = np.array(columns["Mare"])
    changes = np.flatnonzero(mare[1:] != mare[:-1]) + 1
    assert len(changes) + 1 == len(set(mare))  # the mares are blocks of consecutive rows
    design = np.stack([np.ones_like(time), np.sin(2 * np.pi * time), np.cos(2 * np.pi * time)], 1)
    beta, sigma, phi = pt.dvector("beta"), *pt.dscalars("sigma", "phi")
    lags = [np.abs(t[:, None] - t) for t in np.split(time, changes)]
    cov = gg.cov.BlockDiagonal(*(sigma**2 * phi**lag for lag in lags))
    logp = gg.logp(y, design @ beta, cov)
    information = cov.solve(design.T) @ design
    reml = logp - 0.5 * pt.linalg.slogdet(information)[1] + 1.5 * np.log(2 * np.pi)
    return interpreted([beta, sigma, phi], [logp, reml, *pt.grad(logp, [beta, sigma, phi])])


def test_gls_maximum_likelihood(ovary):
    fit = read_json("gls_ovary_car1")["ML"]
    logp, _, *gradient = ovary(list(fit["beta"].values()), fit["sigma"], fit["cor_par"]["Phi"])
    np.testing.assert_allclose(logp, fit["logLik"], rtol=1e-9)
    # At the optimum; a tenth of a standard error away the slopes are of order ten.
    errors = np.sqrt(np.diag(fit["vcov_beta"]))
    np.testing.assert_allclose(gradient[0] * errors, 0, atol=1e-4)
    np.testing.assert_allclose(gradient[1] * fit["sigma"], 0, atol=1e-2)


def test_gls_restricted_maximum_likelihood(ovary):
    fit = read_json("gls_ovary_car1")["REML"]
    _, reml, *_ = ovary(list(fit["beta"].values()), fit["sigma"], fit["cor_par"]["Phi"])
    np.testing.assert_allclose(reml, fit["logLik"], rtol=1e-6)


@pytest.fixture(scope="module")
def schools():
    """(mu, variance of districts, variance of schools) -> logp, its gradient, REML."""
    columns = read_columns("meta_konstantopoulos_3level")
    y, known = (np.array(columns[name], dtype=float) for name in ("yi", "vi"))
    district, school = (np.array(columns[name]) for name in ("district", "school"))
    changes = np.flatnonzero(district[1:] != district[:-1]) + 1
    mu, between, within = pt.dscalars("mu", "between", "within")
    blocks = []
    for v, schools in zip(np.split(known, changes), np.split(school, changes), strict=True):
        together = (schools[:, None] == schools).astype(float)
        blocks.append(between + within * together + np.diag(v))
    cov = gg.cov.BlockDiagonal(*blocks)
    logp = gg.logp(y, mu, cov)
    ones = np.ones_like(y)
    information = (cov.solve(ones) * ones).sum()
    # metafor's criterion has log|X'X| too.
    reml = logp + 0.5 * (np.log(len(y)) - pt.log(information) + np.log(2 * np.pi))
    arguments = [mu, between, within]
    return interpreted(arguments, [logp, reml, *pt.grad(logp, arguments)])


def test_meta_analysis(schools):
    expected = read_json("meta_konstantopoulos_3level")
    for method, index in (("ML", 0), ("REML", 1)):
        fit = expected[method]
        value = schools(fit["mu"], *fit["sigma2"])[index]
        np.testing.assert_allclose(value, fit["logLik"], rtol=1e-9)
    point = expected["point"]
    logp, _, *gradient = schools(*point["par"])
    np.testing.assert_allclose(logp, point["logp"], rtol=1e-9)
    assert_normwise(gradient, point["grad"], 1e-6)
