"""Linear mixed models against lme4: log densities, gradients, optima and REML criteria.

    y ~ N(X beta, sigma^2 (Z Lambda Lambda' Z' + I)),    Lambda = Lambda(theta)

through ``Dense``, with theta the relative Cholesky factors of lme4. Lambda is linear in theta,
so it is given as a constant array ``basis`` (q, q, p) with Lambda = basis @ theta, and one
compiled function with free shapes serves all four data sets.
"""

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, read_columns, read_json, read_matrix, require
from registry import interpreted
from scipy.optimize import minimize

import pm_gaussgrad as gg

# Random-effect terms of each model: grouping factor, columns of its model matrix.
MODELS = {
    "lmm_dyestuff": [("Batch", ["1"])],
    "lmm_sleepstudy": [("Subject", ["1", "Days"])],
    "lmm_penicillin_crossed": [("plate", ["1"]), ("sample", ["1"])],
    "lmm_orthodont": [("Subject", ["1"])],
}
require(*MODELS)

PROFILED = [(name, index) for name in MODELS for index in range(len(read_json(name)["profiled"]))]


@dataclass(frozen=True)
class MixedModel:
    """Data of one model, and what lme4 says about it."""

    name: str
    y: np.ndarray
    design: np.ndarray
    random: np.ndarray
    basis: np.ndarray
    expected: dict

    @property
    def arrays(self):
        return self.y, self.design, self.random, self.basis

    def estimates(self, method):
        """beta, theta, sigma of ``"ML"`` or ``"REML"``."""
        fit = self.expected[method]
        return (
            np.array(list(fit["beta"].values())),
            np.array(list(fit["theta"].values())),
            fit["sigma"],
        )


def random_design(columns, terms):
    """Z (n, q) and the basis (q, q, p) of Lambda, lower triangles stacked by column."""
    blocks, positions, offset = [], [], 0
    for factor, names in terms:
        levels = sorted(set(columns[factor]))
        member = np.array([[value == level for level in levels] for value in columns[factor]])
        regressors = [
            np.ones(len(member)) if name == "1" else np.array(columns[name], dtype=float)
            for name in names
        ]
        # Columns by level, then by regressor: Lambda is block-diagonal.
        block = member[:, :, None] * np.stack(regressors, axis=1)[:, None, :]
        blocks.append(block.reshape(len(member), -1))
        starts = offset + len(names) * np.arange(len(levels))
        lower = [(i, j) for j in range(len(names)) for i in range(j, len(names))]
        positions += [(starts + i, starts + j) for i, j in lower]
        offset += len(names) * len(levels)
    basis = np.zeros((offset, offset, len(positions)))
    for parameter, (i, j) in enumerate(positions):
        basis[i, j, parameter] = 1
    return np.concatenate(blocks, axis=1), basis


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return load(request.param)


def load(name):
    random, basis = random_design(read_columns(name), MODELS[name])
    design, y = read_matrix(name, "X.csv"), read_matrix(name, "y.csv")[:, 0]
    return MixedModel(name, y, design, random, basis, read_json(name))


@pytest.fixture(scope="module")
def symbols():
    y, design, random = pt.dvector("y"), pt.dmatrix("X"), pt.dmatrix("Z")
    basis, beta, theta = pt.dtensor3("basis"), pt.dvector("beta"), pt.dvector("theta")
    sigma = pt.dscalar("sigma")
    spread = pt.dot(random, pt.dot(basis, theta))
    covariance = sigma**2 * (pt.dot(spread, spread.T) + pt.eye(y.shape[0]))
    inputs = [y, design, random, basis, beta, theta, sigma]
    return inputs, gg.cov.Dense(covariance)


@pytest.fixture(scope="module")
def value_and_gradient(symbols):
    """Log density and its gradient, by parts, at (beta, theta, sigma)."""
    inputs, cov = symbols
    y, design, _, _, beta, theta, sigma = inputs
    logp = gg.logp(y, pt.dot(design, beta), cov)
    return interpreted(inputs, [logp, *pt.grad(logp, [beta, theta, sigma])])


@pytest.fixture(scope="module")
def generalised_least_squares(symbols):
    """X' Sigma^-1 X, X' Sigma^-1 y, y' Sigma^-1 y and log|Sigma| at (theta, sigma).

    What REML and the profiled deviance are made of: solves and a log determinant.
    """
    inputs, cov = symbols
    y, design = inputs[:2]
    solved = cov.solve(design.T)
    quad, logdet = cov.quad_logdet(y)
    arguments = [x for x in inputs if x.name != "beta"]
    outputs = [pt.dot(solved, design), pt.dot(solved, y), quad, logdet]
    return interpreted(arguments, outputs)


def reml(gls, n, p):
    """Restricted log-likelihood in the convention of lme4."""
    information, score, quad, logdet = gls
    rss = quad - score @ np.linalg.solve(information, score)
    constant = (n - p) * np.log(2 * np.pi)
    return -(constant + logdet + np.linalg.slogdet(information)[1] + rss) / 2


def test_covariance_at_the_estimates(model):
    _, theta, sigma = model.estimates("ML")
    spread = model.random @ (model.basis @ theta)
    covariance = sigma**2 * (spread @ spread.T + np.eye(len(model.y)))
    assert_normwise(covariance, read_matrix(model.name, "Sigma_at_ML.csv"), 1e-12)


@pytest.mark.parametrize("method", ["ML", "REML"])
def test_covariance_of_the_estimated_effects(model, method):
    """That of lme4 is the inverse of the expected information of beta."""
    beta, theta, sigma = model.estimates(method)
    factor = sigma * model.random @ (model.basis @ theta)
    mean = pt.dvector("beta")
    cov = gg.cov.LowRank(factor) + gg.cov.Diagonal(sigma**2)
    information = interpreted([mean], gg.fisher_information(model.design @ mean, cov, mean))
    expected = model.expected[method]["vcov_beta"]
    assert_normwise(np.linalg.inv(information(beta)), np.reshape(expected, (len(beta), -1)), 1e-8)


def test_logp_at_the_estimates(model, value_and_gradient):
    logp = value_and_gradient(*model.arrays, *model.estimates("ML"))[0]
    np.testing.assert_allclose(logp, model.expected["ML"]["logLik"], rtol=1e-9)
    np.testing.assert_allclose(logp, model.expected["dense_point"]["logp_at_ML"], rtol=1e-9)


@pytest.fixture(scope="module")
def dense_point(model, value_and_gradient):
    """Our value and gradient at the stored point, and the stored numbers."""
    point = model.expected["dense_point"]
    at = np.atleast_1d(point["beta"]), np.atleast_1d(point["theta"]), point["sigma"]
    logp, *gradient = value_and_gradient(*model.arrays, *at)
    return logp, np.concatenate([np.atleast_1d(part) for part in gradient]), point


def test_logp_at_another_point(dense_point):
    logp, _, point = dense_point
    np.testing.assert_allclose(logp, point["logp"], rtol=1e-9)


def test_gradient_at_another_point(dense_point):
    """The stored gradient is a Richardson extrapolation of finite differences."""
    _, gradient, point = dense_point
    np.testing.assert_allclose(gradient, point["grad_beta_theta_sigma"], rtol=1e-6)


@pytest.fixture(scope="module")
def optimum(model, value_and_gradient):
    """Maximum likelihood from our own value and gradient: logp, beta, theta, sigma.

    Coefficients in units of their standard error, sigma on the log scale.
    """
    p = model.design.shape[1]
    start, rss, *_ = np.linalg.lstsq(model.design, model.y)
    sigma = np.sqrt(rss[0] / len(model.y))
    root = np.linalg.qr(model.design, mode="r") / sigma

    def unpack(x):
        beta = start + np.linalg.solve(root, x[:p])
        return beta, x[p:-1], sigma * np.exp(x[-1])

    def negative(x):
        at = unpack(x)
        logp, dbeta, dtheta, dsigma = value_and_gradient(*model.arrays, *at)
        dbeta = np.linalg.solve(root.T, dbeta)
        return -logp, -np.concatenate([dbeta, dtheta, [dsigma * at[2]]])

    # lme4's own start and bounds: the diagonal of Lambda is one at first and never negative.
    on_diagonal = model.basis.diagonal().sum(axis=1) > 0
    x = np.concatenate([np.zeros(p), on_diagonal.astype(float), [0.0]])
    free = (None, None)
    bounds = [*[free] * p, *[(0, None) if d else free for d in on_diagonal], free]
    options = {"ftol": 1e-15, "gtol": 1e-7}
    result = minimize(negative, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return -result.fun, unpack(result.x)


def test_own_optimum_is_not_below_the_stored_one(optimum, model):
    assert optimum[0] >= model.expected["ML"]["logLik"] - 1e-6


@pytest.mark.parametrize("index", range(3), ids=["beta", "theta", "sigma"])
def test_own_estimates(optimum, model, index):
    expected = model.estimates("ML")[index]
    np.testing.assert_allclose(optimum[1][index], expected, rtol=1e-4)


@pytest.fixture(scope="module")
def restricted(model, generalised_least_squares):
    """Solves and log determinant at the REML estimates."""
    y, design, random, basis = model.arrays
    _, theta, sigma = model.estimates("REML")
    return generalised_least_squares(y, design, random, basis, theta, sigma)


def test_restricted_logp_at_the_estimates(restricted, model):
    value = reml(restricted, *model.design.shape)
    np.testing.assert_allclose(value, model.expected["REML"]["logLik"], rtol=1e-9)


def test_coefficients_at_the_restricted_estimates(restricted, model):
    information, score, _, _ = restricted
    beta = np.linalg.solve(information, score)
    np.testing.assert_allclose(beta, model.estimates("REML")[0], rtol=1e-9)


def test_covariance_of_the_coefficients(restricted, model):
    expected = model.expected["REML"]["vcov_beta"]
    assert_normwise(np.linalg.inv(restricted[0]), expected, 1e-9)


@pytest.mark.parametrize("criterion", ["ML_deviance", "REML_criterion"])
@pytest.mark.parametrize(("name", "index"), PROFILED)
def test_profiled_criteria(generalised_least_squares, value_and_gradient, name, index, criterion):
    """Twice the negative log-likelihood at other theta, the best beta and sigma put in."""
    model = load(name)
    stored = model.expected["profiled"][index]
    theta = np.atleast_1d(np.array(stored["theta"], dtype=float))
    n, p = model.design.shape
    information, score, quad, _ = generalised_least_squares(*model.arrays, theta, 1.0)
    beta = np.linalg.solve(information, score)
    rss = quad - score @ beta
    if criterion == "ML_deviance":
        sigma = np.sqrt(rss / n)
        value = value_and_gradient(*model.arrays, beta, theta, sigma)[0]
    else:
        sigma = np.sqrt(rss / (n - p))
        value = reml(generalised_least_squares(*model.arrays, theta, sigma), n, p)
    np.testing.assert_allclose(-2 * value, stored[criterion], rtol=1e-9)
