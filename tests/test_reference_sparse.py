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


def fitted(builds, y, design, beta, theta):
    """Log density and its gradient with respect to the coefficients and ``theta``.

    By name and by terms, which are to be the same but for rounding.
    """
    b, t = pt.dvector("beta"), pt.dvector("theta")
    found = []
    for build in builds:
        cov = build(*(t[i] for i in range(len(theta))))
        if isinstance(cov, list):
            cov = gg.cov.SparsePrecision.from_terms(cov)
        logp = gg.logp(y, pt.dot(np.asarray(design, float), b), cov)
        function = interpreted([b, t], [logp, *pt.grad(logp, [b, t])])
        found.append(function(np.asarray(beta, float), np.asarray(theta, float)))
    for named, by_terms in zip(*found, strict=True):
        assert_allclose(named, by_terms, rtol=1e-11, atol=1e-11)
    return found[0]


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

    def named(rho, s2):
        return gg.cov.CAR(weights, rho, 1 / s2, D=np.ones(y.size))

    logp, dbeta, dtheta = fitted([named, terms], y, np.ones((y.size, 1)), [mean], [rho, s2])
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

    def named(tau, rho):
        return gg.cov.CAR(weights, rho, tau, D=neighbours.diagonal())

    found = fitted([named, terms], y[:, 0], design, expected["beta"], expected["theta"])
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

    def named(spatial, s2):
        return gg.cov.SAR(weights, spatial, pt.sqrt(s2))

    parameters = expected["point"]["par"] if at == "point" else expected["ML"]
    logp, dbeta, dtheta = fitted([named, terms], y, design, parameters[:3], parameters[3:])
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

    def named(tau, rho):
        return gg.cov.CAR(weights, rho, tau)

    logp, _, dtheta = fitted([named, terms], y, design, [1.0], stored["theta"])
    assert_allclose(logp, stored["logp"], rtol=1e-14)
    assert_allclose(dtheta, stored["dtheta"], rtol=1e-13)
