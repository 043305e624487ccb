"""``Eigenbasis`` against phylolm, ape, spatialreg and Stan's automatic differentiation.

Which models have known eigenvectors:

- Pagel's lambda on an ultrametric tree, all tips at height h: s2 (lambda C + (1 - lambda) h I).
- A conditional autoregression with binary symmetric weights: s2 (I - rho W)^-1.
- One with its rows scaled, (tau (M - rho W))^-1 with M diagonal and known: y in units of
  M^-1/2 has the eigenvectors of M^-1/2 W M^-1/2.

Not a simultaneous autoregression with row-standardised weights, where (I - rho W)'(I - rho W) has
eigenvectors that depend on rho; and not crossed effects whose matrices do not commute.
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from reference_cases import each_of, read_columns, read_json, read_matrix, require
from registry import interpreted

import pm_gaussgrad as gg

require("phylo_primates5", "spatial_car_ncsids_null", "stan_autodiff")

TRAITS = ["wingL", "tarsusL", "culmenL", "beakD", "gonysW"]
FITS = [(trait, model) for model in ("BM", "lambda") for trait in TRAITS]


@pytest.fixture(scope="module")
def by_eigenvalues():
    """logp and its gradient with respect to mean and eigenvalues; one function for all cases."""
    y, mean, values = pt.dvector("y"), pt.dvector("mean"), pt.dvector("values")
    vectors = pt.dmatrix("vectors")
    logp = gg.logp(y, mean, gg.cov.Eigenbasis(vectors, values))
    return interpreted([y, mean, vectors, values], [logp, *pt.grad(logp, [mean, values])])


class Fitted:
    """A model evaluated at beta and theta, with eigenvalues(lam, theta) and their Jacobian."""

    def __init__(self, function, matrix, y, design, beta, values, jacobian):
        basis = gg.cov.Eigenbasis.from_matrix(matrix)
        lam = basis.eigenvalues.data
        self.logp, dmean, dvalues = function(y, design @ beta, basis.eigenvectors.data, values(lam))
        self.dbeta = design.T @ dmean
        self.dtheta = np.array([dvalues @ column for column in jacobian(lam)])


def pagel(function, tree, y, design, beta, s2, lam):
    """Pagel's lambda: off-diagonal entries of the tree's matrix times lambda."""
    height = tree[0, 0]
    assert_allclose(np.diag(tree), height, rtol=1e-15)

    def values(mu):
        return s2 * (lam * mu + (1 - lam) * height)

    def jacobian(mu):
        return values(mu) / s2, s2 * (mu - height)

    return Fitted(function, tree, y, design, beta, values, jacobian)


@each_of(("trait", "model"), FITS, "phylo_geospiza")
def test_finches(trait, model, by_eigenvalues):
    """Brownian motion and Pagel's lambda at phylolm's estimates, rel 1e-8."""
    expected = read_json("phylo_geospiza")["traits"][trait][model]
    y = np.array(read_columns("phylo_geospiza")[trait], dtype=float)
    tree = read_matrix("phylo_geospiza", "vcv.csv")
    lam = 1.0 if model == "BM" else expected["optpar"]
    mean = np.ones((y.size, 1)), np.array([expected["mu"]])
    fit = pagel(by_eigenvalues, tree, y, *mean, expected["sigma2"], lam)
    assert_allclose(fit.logp, expected["logLik"], rtol=1e-8)


def test_primates(by_eigenvalues):
    """Brownian motion at its estimates, rel 1e-9; Pagel's lambda with a gradient, rel 1e-5."""
    expected = read_json("phylo_primates5")
    columns = {name: np.array(values) for name, values in read_columns("phylo_primates5").items()}
    x, y = (columns[name].astype(float) for name in "XY")
    tree, design = read_matrix("phylo_primates5", "vcv.csv"), np.stack([np.ones(5), x], axis=1)
    ml = expected["BM_ML"]
    beta = np.array(list(ml["beta"].values()))
    fit = pagel(by_eigenvalues, tree, y, design, beta, ml["sigma2"], 1.0)
    assert_allclose(fit.logp, ml["logLik"], rtol=1e-9)
    point = expected["point_pagel"]
    fit = pagel(by_eigenvalues, tree, y, design, np.array(point["par"][:2]), *point["par"][2:])
    assert_allclose(fit.logp, point["logp"], rtol=1e-9)
    assert_allclose([*fit.dbeta, *fit.dtheta], point["grad"], rtol=1e-5)


def test_mammals(by_eigenvalues):
    """Pagel's lambda on 49 species, by Stan's automatic differentiation, rel 1e-8."""
    case = "stan_autodiff/phylo_pagel_mammals"
    expected = read_json(case)
    y, design, tree = (read_matrix(case, f"{name}.csv") for name in ("y", "X", "K1"))
    beta = np.array(expected["beta"])
    fit = pagel(by_eigenvalues, tree, y[:, 0], design, beta, *expected["theta"])
    assert_allclose(fit.logp, expected["logp"], rtol=1e-8)
    assert_allclose(fit.dbeta, expected["dbeta"], rtol=1e-8)
    assert_allclose(fit.dtheta, expected["dtheta"], rtol=1e-8)


@pytest.mark.parametrize("at", ["ML", "point"])
def test_conditional_autoregression(at, by_eigenvalues):
    """(I - rho W) / s2 with binary weights, by spatialreg: rel 1e-9, gradient 1e-6."""
    case = "spatial_car_ncsids_null"
    expected, weights = read_json(case), read_matrix(case, "W.csv")
    y = np.array(read_columns(case)["ft"], dtype=float)
    point = expected["point_unweighted"]
    mean, rho, s2 = point["par"] if at == "point" else expected["unweighted"]["ML"]
    fit = Fitted(
        by_eigenvalues,
        weights,
        y,
        np.ones((y.size, 1)),
        np.array([mean]),
        lambda w: s2 / (1 - rho * w),
        lambda w: (s2 * w / (1 - rho * w) ** 2, 1 / (1 - rho * w)),
    )
    stored = point["logp"] if at == "point" else expected["unweighted"]["logLik"]
    assert_allclose(fit.logp, stored, rtol=1e-9)
    if at == "point":
        assert_allclose([*fit.dbeta, *fit.dtheta], point["grad"], rtol=1e-6)


def test_scaled_conditional_autoregression(by_eigenvalues):
    """tau (M - rho W), M the numbers of neighbours, by Stan: rel 1e-8."""
    case = "stan_autodiff/car_ncsids"
    expected = read_json(case)
    y, design, weights = (read_matrix(case, f"{name}.csv") for name in ("y", "X", "W"))
    root = np.sqrt(np.maximum(weights.sum(axis=1), 1))
    tau, rho = expected["theta"]
    fit = Fitted(
        by_eigenvalues,
        weights / root[:, None] / root,
        root * y[:, 0],
        root[:, None] * design,
        np.array(expected["beta"]),
        lambda w: 1 / (tau * (1 - rho * w)),
        lambda w: (-1 / (tau**2 * (1 - rho * w)), w / (tau * (1 - rho * w) ** 2)),
    )
    assert_allclose(fit.logp + np.log(root).sum(), expected["logp"], rtol=1e-8)
    assert_allclose(fit.dbeta, expected["dbeta"], rtol=1e-8)
    assert_allclose(fit.dtheta, expected["dtheta"], rtol=1e-8)
