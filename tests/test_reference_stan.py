"""Log densities and gradients against Stan's reverse-mode automatic differentiation.

Twelve observations with a free covariance matrix or Cholesky factor, and two Gaussian
processes with a linear mean on 155 sites; the tolerance is the one the case states.
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, each_of, read_json, read_matrix, require
from registry import interpreted

import pm_gaussgrad as gg

require("stan_autodiff")

FREE = {"dense12_cov": gg.cov.Dense, "dense12_chol": gg.cov.Cholesky}
KERNELS = {
    "gp_se": lambda distance, length: pt.exp(-(distance**2) / (2 * length**2)),
    "gp_exponential": lambda distance, length: pt.exp(-distance / length),
}
RTOL = {"dense12_cov": 1e-8, "dense12_chol": 1e-8, "gp_se": 1e-7, "gp_exponential": 1e-8}


def stored(name):
    case = f"stan_autodiff/{name}"
    return case, read_json(case), read_matrix(case, "y.csv")[:, 0], read_matrix(case, "X.csv")


@pytest.fixture(scope="module", params=FREE)
def free(request):
    """Name, expected numbers, and (logp, dmu, dmatrix) of a free matrix."""
    name = request.param
    case, expected, y, design = stored(name)
    mu, matrix = pt.dvector("mu"), pt.dmatrix("matrix")
    logp = gg.logp(y, mu, FREE[name](matrix))
    function = interpreted([mu, matrix], [logp, *pt.grad(logp, [mu, matrix])])
    return name, expected, function(design @ expected["beta"], read_matrix(case, "S.csv"))


def test_free_matrix_logp(free):
    name, expected, (logp, _, _) = free
    np.testing.assert_allclose(logp, expected["logp"], rtol=RTOL[name])


def test_free_matrix_gradient_of_the_mean(free):
    name, expected, (_, dmu, _) = free
    np.testing.assert_allclose(dmu, expected["dbeta"], rtol=RTOL[name])


def test_free_matrix_gradient_of_the_matrix(free):
    name, _, (_, _, dmatrix) = free
    gradient = read_matrix(f"stan_autodiff/{name}", "dS.csv")
    if name == "dense12_chol":
        # Stan fills the strict upper triangle of a Cholesky factor's gradient with numbers
        # without a meaning; ours is zero there.
        gradient = np.tril(gradient)
    assert_normwise(dmatrix, gradient, RTOL[name])


@each_of("name", KERNELS, *(f"stan_autodiff/{name}" for name in KERNELS))
def test_process(name):
    case, expected, y, design = stored(name)
    distance = read_matrix(case, "D.csv")
    beta, theta = pt.dvector("beta"), pt.dvector("theta")
    amplitude, length, noise = theta[0], theta[1], theta[2]
    kernel = amplitude**2 * KERNELS[name](distance, length)
    covariance = kernel + noise**2 * pt.eye(expected["n"])
    logp = gg.logp(y, pt.dot(design, beta), covariance)
    function = interpreted([beta, theta], [logp, *pt.grad(logp, [beta, theta])])
    logp, dbeta, dtheta = function(expected["beta"], expected["theta"])
    np.testing.assert_allclose(logp, expected["logp"], rtol=RTOL[name])
    np.testing.assert_allclose(dbeta, expected["dbeta"], rtol=RTOL[name])
    np.testing.assert_allclose(dtheta, expected["dtheta"], rtol=RTOL[name])
