"""Sums and scales against other packages and dense algebra: geoR's nugget, fits of nlme."""

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from reference_cases import each_of, read_columns, read_json, require
from registry import interpreted
from scipy.optimize import minimize

import pm_gaussgrad as gg

require("gls_ovary_car1", "gls_orthodont_cs")

NUGGETS = {
    # geoR's Matern has no factor sqrt(2 kappa).
    "geor_s100_exponential": lambda u: pt.exp(-u),
    "geor_elevation_matern15": lambda u: (1 + u) * pt.exp(-u),
}


@each_of("case", list(NUGGETS), *NUGGETS)
def test_nugget(case):
    """Likelihoods of geoR, ordinary and restricted, of Dense + Diagonal at its points."""
    x1, x2, y = (np.array(column, dtype=float) for column in read_columns(case).values())
    distance = np.hypot(np.subtract.outer(x1, x1), np.subtract.outer(x2, x2))
    sill, length, nugget, mean = parameters = [pt.dscalar(name) for name in "abcd"]
    signal = gg.cov.Dense(sill * NUGGETS[case](distance / length))
    cov = signal + gg.cov.Diagonal(nugget)
    logp, ones = gg.logp(y, mean, cov), np.ones(len(y))
    outputs = [logp, *pt.grad(logp, [*parameters]), cov.solve(ones) @ ones, cov.solve(y) @ ones]
    function = interpreted(parameters, outputs)
    expected = read_json(case)
    fit = expected["ML"]
    at = [fit[name] for name in ("sigmasq", "phi", "nugget", "beta")]
    found = function(*at)
    assert_allclose(found[0], fit["loglik"], rtol=1e-8)
    # An optimum; a nugget of zero is one at the boundary.
    scaled = np.array(found[1:5]) * at
    assert_allclose(scaled, 0, atol=1e-2)
    assert at[2] > 0 or found[3] < 0
    for point in expected["points"]:
        at = [*point["cov.pars"], point["nugget"]]
        *_, information, weighted = function(*at, 0.0)
        value = function(*at, weighted / information)[0]
        assert_allclose(value, point["profile_loglik_beta_hat"], rtol=1e-8)
        # The constant of geoR's restricted likelihood has X'X.
        constant = np.log(2 * np.pi) + np.log(len(y)) - np.log(information)
        assert_allclose(value + constant / 2, point["reml"], rtol=1e-8)


def mares():
    """Days, follicles, mares and the means' regressors of the data set Ovary."""
    columns = read_columns("gls_ovary_car1")
    time, y = (np.array(columns[name], dtype=float) for name in ("Time", "follicles"))
    mare = np.unique(columns["Mare"], return_inverse=True)[1]
    design = np.stack([np.ones_like(time), np.sin(2 * np.pi * time), np.cos(2 * np.pi * time)], 1)
    return time, y, mare, design


@pytest.fixture(scope="module")
def intercepts():
    """Log density and gradient of random intercepts, processes and noise, as they are said."""
    time, y, mare, design = mares()
    beta, tau, sigma, phi, noise = pt.dvector("beta"), *(pt.dscalar(name) for name in "abcd")
    Z = np.eye(mare.max() + 1)[mare]
    cov = (
        gg.cov.LowRank(tau * Z)
        + gg.cov.AR1(sigma**2, phi, time=time, group=mare)
        + gg.cov.Diagonal(noise**2)
    )
    wrt = [beta, tau, sigma, phi, noise]
    logp = gg.logp(y, design @ beta, cov)
    return interpreted(wrt, [logp, *pt.grad(logp, wrt)])


def test_intercepts_of_mares_by_dense_algebra(intercepts):
    time, y, mare, design = mares()
    beta, at = np.array([12.2, -3.0, -0.9]), np.array([2.0, 3.5, 0.003, 1.5])
    same = np.equal.outer(mare, mare)
    lags = np.abs(np.subtract.outer(time, time))

    def matrix(tau, sigma, phi, noise):
        return same * (tau**2 + sigma**2 * phi**lags) + noise**2 * np.eye(len(y))

    residual, sigma = y - design @ beta, matrix(*at)
    inverse = np.linalg.inv(sigma)
    alpha = inverse @ residual
    logdet = np.linalg.slogdet(sigma)[1]
    logp, of_beta, *slopes = intercepts(beta, *at)
    assert_allclose(logp, -(residual @ alpha + logdet + len(y) * np.log(2 * np.pi)) / 2, rtol=1e-12)
    assert_allclose(of_beta, design.T @ alpha, rtol=1e-10)
    for slope, step in zip(slopes, np.eye(4), strict=True):
        change = np.imag(matrix(*(at + 1e-30j * step))) / 1e-30
        expected = (alpha @ change @ alpha - (inverse * change).sum()) / 2
        assert_allclose(slope, expected, rtol=1e-9)


def test_without_intercepts_it_is_the_fit_of_nlme(intercepts):
    """corCAR1 at its maximum, as the limit of the sum."""
    fit = read_json("gls_ovary_car1")["ML"]
    beta = np.array(list(fit["beta"].values()))
    logp, of_beta, of_tau, of_sigma, *_ = intercepts(
        beta, 0.0, fit["sigma"], fit["cor_par"]["Phi"], 0.0
    )
    assert_allclose(logp, fit["logLik"], rtol=1e-9)
    assert_allclose(of_beta * np.sqrt(np.diag(fit["vcov_beta"])), 0, atol=1e-4)
    assert_allclose([of_tau, of_sigma * fit["sigma"]], 0, atol=1e-2)


AGES = 4
# Restricted likelihoods that nlme prints for `anova` of its fits fm1Orth.gls, fm2Orth.gls and
# fm4Orth.gls; Pinheiro and Bates (2000), section 5.4.
HETEROGENEOUS = {"corSymm by age": -212.2734, "corCompSymm by age": -215.9862,
                 "corCompSymm by sex": -211.0943}  # fmt: skip


def heterogeneous(kind, logs, bends, subject, age, female):
    """Correlations of a child's distances and standard deviations by age or sex, as said."""
    sigma = pt.exp(logs)
    if kind == "corCompSymm by sex":
        same = gg.cov.CompoundSymmetry(1.0, pt.tanh(bends[0]), group=subject)
        return gg.cov.Scaled(same, sigma[female])
    if kind == "corCompSymm by age":
        within = gg.cov.CompoundSymmetry(1.0, pt.tanh(bends[0]), size=AGES)
    else:
        root = pt.set_subtensor(pt.eye(AGES)[np.tril_indices(AGES, -1)], bends)
        root = root / pt.sqrt((root**2).sum(axis=1, keepdims=True))
        within = root @ root.T
    return gg.cov.RepeatedMeasures(gg.cov.Scaled(within, sigma), subject, age)


@pytest.mark.parametrize("kind", HETEROGENEOUS)
def test_variances_by_age_and_by_sex(kind):
    """varIdent of nlme: restricted likelihoods at their maximum, on the data Orthodont."""
    columns = read_columns("gls_orthodont_cs")
    years, y = (np.array(columns[name], dtype=float) for name in ("age", "distance"))
    female = (np.array(columns["Sex"]) == "Female").astype(int)
    age = np.unique(years, return_inverse=True)[1]
    design = np.stack([np.ones_like(y), female, years - 11, female * (years - 11)], axis=1)
    at = pt.dvector("at")
    n_scales = 2 if kind.endswith("sex") else AGES
    cov = heterogeneous(kind, at[:n_scales], at[n_scales:], columns["Subject"], age, female)
    weighted = cov.solve(design.T)
    information = weighted @ design
    beta = pt.linalg.solve(information, weighted @ y, assume_a="pos")
    reml = gg.logp(y, design @ beta, cov) - pt.linalg.slogdet(information)[1] / 2
    reml = reml + design.shape[1] * np.log(2 * np.pi) / 2
    function = interpreted([at], [-reml, -pt.grad(reml, at)])
    n_bends = AGES * (AGES - 1) // 2 if kind.startswith("corSymm") else 1
    start = np.concatenate([np.full(n_scales, np.log(2.2)), np.full(n_bends, 0.7)])
    found = minimize(function, start, jac=True, method="BFGS")
    assert_allclose(-found.fun, HETEROGENEOUS[kind], atol=6e-5)
