"""``CompoundSymmetry`` against 120-digit arithmetic, nlme and lme4; subjects are rows."""

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from reference_cases import assert_normwise, read_columns, read_json, read_matrix, read_npz, require
from registry import interpreted

import pm_gaussgrad as gg

# Grouping factor and observations a subject.
MIXED = {"lmm_dyestuff": 5, "lmm_orthodont": 4}
require("highprec", "gls_orthodont_cs", *MIXED)

PRECISE = ["param_cs_n40_rho0.3", "param_cs_n40_rho0.999", "param_cs_n40_rho0.9999999999"]


@pytest.fixture(scope="module")
def by_correlation():
    y, mean = pt.dmatrix("y"), pt.dmatrix("mean")
    v, rho = pt.dscalar("v"), pt.dscalar("rho")
    logp = gg.logp(y, mean, gg.cov.CompoundSymmetry(v, rho)).sum()
    return interpreted([y, mean, v, rho], [logp, *pt.grad(logp, [v, rho])])


@pytest.mark.parametrize("name", PRECISE)
def test_value_and_gradient_to_the_last_digit(name, by_correlation):
    """A dense Cholesky factorisation keeps 13 digits at 0.999, and 6 at 1 - 1e-10."""
    case = read_npz("highprec", f"{name}.npz")
    got = by_correlation(case["y"][None], case["mu"][None], *case["theta"])
    assert_allclose(got, [case["logp"], *case["dtheta"]], rtol=1e-15)


@pytest.fixture(scope="module")
def by_components():
    """logp and gradient of beta, theta, sigma; and what generalised least squares is made of."""
    y, design = pt.dmatrix("y"), pt.dtensor3("design")  # (subjects, visits), (p, subjects, visits)
    beta, theta, sigma = pt.dvector("beta"), pt.dscalar("theta"), pt.dscalar("sigma")
    intercept = gg.cov.CompoundSymmetry((sigma * theta) ** 2, 1.0)
    cov = intercept + gg.cov.Diagonal(sigma**2)
    logp = gg.logp(y, (beta[:, None, None] * design).sum(axis=0), cov).sum()
    solved = cov.solve(design)
    information = (solved[:, None] * design).sum(axis=(2, 3))
    parts = [information, (solved * y).sum(axis=(1, 2))]
    quad, logdet = cov.quad_logdet(y)
    outputs = [logp, *pt.grad(logp, [beta, theta, sigma]), *parts, quad.sum(), logdet]
    return interpreted([y, design, beta, theta, sigma], outputs)


def _mixed(name):
    design, y = read_matrix(name, "X.csv"), read_matrix(name, "y.csv")
    visits = MIXED[name]
    rows = y.reshape(-1, visits), design.T.reshape(design.shape[1], -1, visits)
    return rows, read_json(name)


def _coefficients(fit):
    return np.array(list(fit["beta"].values())), next(iter(fit["theta"].values())), fit["sigma"]


def _restricted(outputs, n, p, subjects):
    information, score, quad, logdet = outputs[4:]
    rss = quad - score @ np.linalg.solve(information, score)
    logdets = subjects * logdet + np.linalg.slogdet(information)[1]
    return -((n - p) * np.log(2 * np.pi) + logdets + rss) / 2


@pytest.mark.parametrize("name", MIXED)
def test_mixed_model(name, by_components):
    """Log densities rel 1e-9; the stored gradient is a difference, rel 1e-6."""
    (y, design), expected = _mixed(name)
    p, subjects, _ = design.shape
    fit = _coefficients(expected["ML"])
    assert_allclose(by_components(y, design, *fit)[0], expected["ML"]["logLik"], rtol=1e-9)
    point = expected["dense_point"]
    at = np.atleast_1d(point["beta"]), point["theta"], point["sigma"]
    logp, *gradient = by_components(y, design, *at)[:4]
    assert_allclose(logp, point["logp"], rtol=1e-9)
    assert_allclose(np.hstack(gradient), point["grad_beta_theta_sigma"], rtol=1e-6)
    outputs = by_components(y, design, *_coefficients(expected["REML"]))
    value = _restricted(outputs, y.size, p, subjects)
    assert_allclose(value, expected["REML"]["logLik"], rtol=1e-9)
    beta = np.linalg.solve(*outputs[4:6])
    assert_allclose(beta, list(expected["REML"]["beta"].values()), rtol=1e-9)
    assert_normwise(np.linalg.inv(outputs[4]), expected["REML"]["vcov_beta"], 1e-9)


@pytest.mark.parametrize("name", MIXED)
def test_profiled_deviance(name, by_components):
    """At other theta, zero among them, with the best beta and sigma put in."""
    (y, design), expected = _mixed(name)
    p = design.shape[0]
    for stored in expected["profiled"]:
        information, score, quad, _ = by_components(y, design, np.zeros(p), stored["theta"], 1.0)[
            4:
        ]
        beta = np.linalg.solve(information, score)
        sigma = np.sqrt((quad - score @ beta) / y.size)
        value = by_components(y, design, beta, stored["theta"], sigma)[0]
        assert_allclose(-2 * value, stored["ML_deviance"], rtol=1e-9)


def test_generalised_least_squares(by_correlation, by_components):
    """nlme's corCompSymm: four visits a child, 27 children; REML rel 1e-6."""
    columns, expected = read_columns("gls_orthodont_cs"), read_json("gls_orthodont_cs")
    y = np.array(columns["distance"], dtype=float).reshape(27, 4)
    age = np.array(columns["age"], dtype=float).reshape(27, 4) - 11
    female = np.array([sex == "Female" for sex in columns["Sex"]], dtype=float).reshape(27, 4)
    design = np.stack([np.ones_like(y), female, age, female * age])
    fit = expected["ML"]
    mean = np.einsum("p,pst->st", list(fit["beta"].values()), design)
    rho = fit["cor_par"]["Rho"]
    logp, _, slope = by_correlation(y, mean, fit["sigma"] ** 2, rho)
    assert_allclose(logp, fit["logLik"], rtol=1e-9)
    assert_allclose(slope, 0, atol=1e-3)
    fit = expected["REML"]
    rho = fit["cor_par"]["Rho"]
    theta, sigma = np.sqrt(rho / (1 - rho)), fit["sigma"] * np.sqrt(1 - rho)
    outputs = by_components(y, design, np.zeros(4), theta, sigma)
    assert_allclose(_restricted(outputs, 108, 4, 27), fit["logLik"], rtol=1e-6)
    assert_allclose(np.linalg.solve(*outputs[4:6]), list(fit["beta"].values()), rtol=1e-6)
