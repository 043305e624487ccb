"""Markov fields of areas against spatialreg, Stan and arithmetic with 120 digits."""

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from reference_cases import read_columns, read_json, read_matrix, read_npz, require
from registry import interpreted
from scipy import sparse

import pm_gaussgrad as gg

require(
    "highprec", "spatial_car_ncsids_null", "spatial_sar_error_columbus", "stan_autodiff/car_ncsids"
)


def fitted(terms_of, y, design, beta, theta):
    """Log density and its gradient with respect to the coefficients and ``theta``."""
    b, t = pt.dvector("beta"), pt.dvector("theta")
    cov = gg.cov.SparsePrecision.from_terms(terms_of(*(t[i] for i in range(len(theta)))))
    logp = gg.logp(y, pt.dot(np.asarray(design, float), b), cov)
    function = interpreted([b, t], [logp, *pt.grad(logp, [b, t])])
    return function(np.asarray(beta, float), np.asarray(theta, float))


@pytest.mark.parametrize("at", ["ML", "point"])
def test_conditional_autoregression(at):
    """(I - rho W) / s2 with binary weights, by spatialreg: rel 1e-9, gradient 1e-6."""
    case = "spatial_car_ncsids_null"
    expected, weights = read_json(case), sparse.coo_array(read_matrix(case, "W.csv"))
    y = np.array(read_columns(case)["ft"], dtype=float)
    point = expected["point_unweighted"]
    mean, rho, s2 = point["par"] if at == "point" else expected["unweighted"]["ML"]

    def terms(rho, s2):
        return [(1 / s2, sparse.eye_array(y.size)), (-rho / s2, weights)]

    logp, dbeta, dtheta = fitted(terms, y, np.ones((y.size, 1)), [mean], [rho, s2])
    stored = point["logp"] if at == "point" else expected["unweighted"]["logLik"]
    assert_allclose(logp, stored, rtol=1e-9)
    if at == "point":
        assert_allclose([*dbeta, *dtheta], point["grad"], rtol=1e-6)


def test_scaled_conditional_autoregression():
    """tau (M - rho W), M the numbers of neighbours and 1 for islands, by Stan: rel 1e-8."""
    case = "stan_autodiff/car_ncsids"
    expected = read_json(case)
    y, design, weights = (read_matrix(case, f"{name}.csv") for name in ("y", "X", "W"))
    neighbours = sparse.diags_array(np.maximum(weights.sum(axis=1), 1))

    def terms(tau, rho):
        return [(tau, neighbours), (-tau * rho, weights)]

    found = fitted(terms, y[:, 0], design, expected["beta"], expected["theta"])
    for value, name in zip(found, ("logp", "dbeta", "dtheta"), strict=True):
        assert_allclose(value, expected[name], rtol=1e-8)


@pytest.mark.parametrize("at", ["ML", "point"])
def test_simultaneous_autoregression_of_errors(at):
    """(I - lambda W)'(I - lambda W) / s2, W with rows of sum 1, by spatialreg: rel 1e-9, 1e-6."""
    case = "spatial_sar_error_columbus"
    expected, weights = read_json(case), sparse.csr_array(read_matrix(case, "W.csv"))
    columns = {name: np.array(x, dtype=float) for name, x in read_columns(case).items()}
    y = columns["CRIME"]
    design = np.column_stack([np.ones(y.size), columns["INC"], columns["HOVAL"]])

    def terms(spatial, s2):
        products = [(1 / s2, sparse.eye_array(y.size)), (-spatial / s2, weights + weights.T)]
        return [*products, (spatial**2 / s2, weights.T @ weights)]

    parameters = expected["point"]["par"] if at == "point" else expected["ML"]
    logp, dbeta, dtheta = fitted(terms, y, design, parameters[:3], parameters[3:])
    stored = expected["point"]["logp"] if at == "point" else expected["logLik"]
    assert_allclose(logp, stored, rtol=1e-9)
    if at == "point":
        assert_allclose([*dbeta, *dtheta], expected["point"]["grad"], rtol=1e-6)


def test_conditional_autoregression_in_high_precision():
    """tau (D - rho W) on 40 nodes, with 120 digits."""
    stored = read_npz("highprec", "param_car_n40_rho0.5.npz")
    weights = stored["W"]

    def terms(tau, rho):
        return [(tau, np.diag(weights.sum(axis=1))), (-tau * rho, weights)]

    y, design = stored["y"], stored["mu"][:, None]
    logp, _, dtheta = fitted(terms, y, design, [1.0], stored["theta"])
    assert_allclose(logp, stored["logp"], rtol=1e-14)
    assert_allclose(dtheta, stored["dtheta"], rtol=1e-13)
