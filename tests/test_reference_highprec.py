"""Log densities and gradients against arithmetic with 120 digits, condition numbers up to 1e15.

Inputs are exact doubles, expected values are correctly rounded. The error bounds are those of
a backward stable factorisation, c * cond * eps, with the condition number of the covariance
scaled to unit diagonal (Higham, 2002, Accuracy and Stability of Numerical Algorithms, section
10.1: Cholesky factorisation does not see a diagonal scaling). Through the stored Cholesky
factor the condition number is that of the factor, its square root. Errors are relative to the
largest entry of the expected array, the observations in units of their standard deviations.
"""

import functools

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, read_json, read_npz, require
from registry import interpreted

import pm_gaussgrad as gg

require("highprec")

EPS = np.finfo(float).eps
INDEX = {
    case["name"]: case
    for case in read_json("highprec", "index.json")["cases"]
    if not case["name"].startswith("param_")
}
STRUCTURES = {"Sigma": gg.cov.Dense, "chol": gg.cov.Cholesky, "precision": gg.cov.Precision}
QUANTITIES = ["logp", "quad", "logdet", "dy", "dmu", "dmatrix", "loo_var"]


@functools.cache
def compiled(matrix_name):
    """One function a structure, with free shapes: all cases share it."""
    y, mu, matrix = pt.dvector("y"), pt.dvector("mu"), pt.dmatrix(matrix_name)
    cov = STRUCTURES[matrix_name](matrix)
    logp = gg.logp(y, mu, cov)
    gradients = pt.grad(logp, [y, mu, matrix])
    outputs = [logp, *cov.quad_logdet(y - mu), *gradients, 1 / cov.inverse_diagonal()]
    return interpreted([y, mu, matrix], outputs)


@functools.cache
def case(name):
    """The stored arrays and the condition number of the covariance scaled to unit diagonal."""
    arrays = read_npz("highprec", f"{name}.npz")
    scale = arrays["scale"] = np.sqrt(np.diag(arrays["Sigma"]))
    arrays["scaled_cond"] = np.linalg.cond(arrays["Sigma"] / scale[:, None] / scale)
    return arrays


def in_standard_units(array, quantity, matrix_name, scale):
    """The array as it would be had every observation unit variance."""
    if quantity in ("dy", "dmu"):
        return array * scale
    if quantity == "loo_var":
        return array / scale / scale
    if quantity == "dmatrix" and matrix_name == "Sigma":
        return array * scale[:, None] * scale
    if quantity == "dmatrix" and matrix_name == "precision":
        return array / scale[:, None] / scale
    if quantity == "dmatrix":
        return array * scale[:, None]
    return array


@functools.cache
def evaluated(name, matrix_name):
    arrays = case(name)
    outputs = compiled(matrix_name)(arrays["y"], arrays["mu"], arrays[matrix_name])
    return dict(zip(QUANTITIES, outputs, strict=True))


def expected_gradient(arrays, matrix_name):
    """The gradient with respect to the structure's matrix, from the stored numbers."""
    if matrix_name == "chol":
        # d logp / d L = tril((G + G') L) for G = d logp / d Sigma, Sigma = L L'.
        return np.tril(2 * arrays["dSigma"] @ arrays["chol"])
    if matrix_name == "precision":
        residual = arrays["y"] - arrays["mu"]
        return (arrays["Sigma"] - np.outer(residual, residual)) / 2
    return arrays["dSigma"]


def error_bound(arrays, matrix_name):
    # Observed: at most 0.45 cond eps (dense), 1.0 sqrt(cond) eps (chol), 1.6 cond eps (precision).
    cond = arrays["scaled_cond"]
    return {"Sigma": cond, "chol": 10 * np.sqrt(cond), "precision": 10 * cond}[matrix_name] * EPS


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("matrix_name", STRUCTURES)
@pytest.mark.parametrize("name", INDEX)
def test_value_and_gradient(name, matrix_name, quantity):
    arrays = case(name)
    stored = {**arrays, "dmatrix": expected_gradient(arrays, matrix_name)}
    actual, expected = (
        in_standard_units(values[quantity], quantity, matrix_name, arrays["scale"])
        for values in (evaluated(name, matrix_name), stored)
    )
    assert_normwise(actual, expected, error_bound(arrays, matrix_name))


@pytest.mark.parametrize("name", INDEX)
def test_dense_gradient_is_as_accurate_as_a_plain_cholesky(name):
    """The bound above says little at cond 1e15; the error of a plain double Cholesky does."""
    arrays = case(name)
    rtol = max(4 * INDEX[name]["double_chol_dSigma_rel_err"], 100 * EPS)
    assert_normwise(evaluated(name, "Sigma")["dmatrix"], arrays["dSigma"], rtol)


@pytest.mark.parametrize("name", INDEX)
def test_dense_gradient_is_symmetric(name):
    gradient = evaluated(name, "Sigma")["dmatrix"]
    np.testing.assert_array_equal(gradient, gradient.T)
