"""Factor models and mixed models through ``LowRank`` and its sums.

Random effects are factors: their design matrix times their standard deviation. The same cases as
through ``Dense`` elsewhere, and their stated tolerances: scikit-learn's factor analysis, lme4,
Stan's gradients.
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, read_columns, read_json, read_matrix, read_npz, require
from registry import interpreted

import pm_gaussgrad as gg

MIXED = {"lmm_dyestuff": ["Batch"], "lmm_penicillin_crossed": ["plate", "sample"]}
HIGHPREC = ["lowrank_n40_r5_d1e-2_draw", "lowrank_n40_r5_d1e-2_rough"]
require(*MIXED, "highprec", "lowrank_fa_wine", "stan_autodiff")


def indicator(labels):
    """Design matrix (n, levels) of a grouping factor."""
    return (np.array(labels)[:, None] == np.unique(labels)).astype(float)


def square_root(matrix):
    """U (n, k) with U U' the matrix, of rank k."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-10 * values.max()
    return vectors[:, kept] * np.sqrt(values[kept])


def effects(*terms):
    """The sum of ``LowRank(scale * design)`` over (scale, design), starting from nothing."""
    return sum(gg.cov.LowRank(scale * design) for scale, design in terms)


# Factor analysis: rows, vectors and scalars of noise.


@pytest.fixture(scope="module")
def wine():
    return read_npz("lowrank_fa_wine", "data.npz"), read_json("lowrank_fa_wine")


def row_densities(x, mean, cov):
    return gg.logp(x, mean, cov).eval(mode="FAST_COMPILE")


def test_factor_analysis(wine):
    data, expected = wine
    cov = gg.cov.LowRank(data["W"]) + gg.cov.Diagonal(data["d"])
    rows = row_densities(data["X"], data["mean"], cov)
    np.testing.assert_allclose(rows, data["score_samples"], rtol=1e-10)
    np.testing.assert_allclose(rows.sum(), expected["total_loglik"], rtol=1e-10)


def test_probabilistic_principal_components(wine):
    data, expected = wine
    noise = data["pca_noise_variance"]
    scales = np.sqrt(data["pca_explained_variance"] - noise)
    cov = gg.cov.LowRank(scales * data["pca_components"].T) + gg.cov.Diagonal(noise)
    rows = row_densities(data["X"], data["mean"], cov)
    np.testing.assert_allclose(rows, data["pca_score_samples"], rtol=1e-10)
    np.testing.assert_allclose(rows.sum(), expected["ppca_total_loglik"], rtol=1e-10)


@pytest.mark.parametrize("name", HIGHPREC)
def test_digits(name):
    """The stored matrix is V diag(lam) V' + 0.01 I to rounding: its factor from eigenvectors."""
    arrays = read_npz("highprec", f"{name}.npz")
    factor = square_root(arrays["Sigma"] - 0.01 * np.eye(40))
    assert factor.shape == (40, 5)
    cov = gg.cov.LowRank(factor) + gg.cov.Diagonal(0.01)
    residual = arrays["y"] - arrays["mu"]
    graphs = [cov.logp(residual), *cov.quad_logdet(residual), cov.solve(residual)]
    logp, quad, logdet, alpha = (x.eval(mode="FAST_COMPILE") for x in graphs)
    rtol = 10 * arrays["cond"] * np.finfo(float).eps
    for actual, key in ((logp, "logp"), (quad, "quad"), (logdet, "logdet"), (alpha, "dmu")):
        assert_normwise(actual, arrays[key], rtol)


# Mixed models against lme4.


@pytest.fixture(scope="module", params=MIXED)
def mixed(request):
    """y, X, the stored numbers, and functions of (beta, theta, sigma)."""
    name = request.param
    columns, y = read_columns(name), read_matrix(name, "y.csv")[:, 0]
    design = read_matrix(name, "X.csv")
    beta, theta, sigma = pt.dvector("beta"), pt.dvector("theta"), pt.dscalar("sigma")
    terms = [(sigma * theta[i], indicator(columns[f])) for i, f in enumerate(MIXED[name])]
    cov = effects(*terms) + gg.cov.Diagonal(sigma**2)
    logp = gg.logp(y, pt.dot(design, beta), cov)
    value_and_gradient = interpreted(
        [beta, theta, sigma], [logp, *pt.grad(logp, [beta, theta, sigma])]
    )
    solved = cov.solve(design.T)
    quad, logdet = cov.quad_logdet(y)
    outputs = [pt.dot(solved, design), pt.dot(solved, y), quad, logdet, cov.to_dense()]
    return y, design, name, value_and_gradient, interpreted([theta, sigma], outputs)


def estimates(name, method):
    fit = read_json(name)[method]
    return [*(np.array(list(fit[key].values())) for key in ("beta", "theta")), fit["sigma"]]


def test_mixed_model_at_the_estimates(mixed):
    *_, name, value_and_gradient, restricted = mixed
    at = estimates(name, "ML")
    expected = read_json(name)["ML"]["logLik"]
    np.testing.assert_allclose(value_and_gradient(*at)[0], expected, rtol=1e-9)
    assert_normwise(restricted(*at[1:])[-1], read_matrix(name, "Sigma_at_ML.csv"), 1e-12)


def test_mixed_model_gradient(mixed):
    *_, name, value_and_gradient, _ = mixed
    point = read_json(name)["dense_point"]
    at = [np.atleast_1d(point["beta"]), np.atleast_1d(point["theta"]), point["sigma"]]
    logp, *gradient = value_and_gradient(*at)
    np.testing.assert_allclose(logp, point["logp"], rtol=1e-9)
    gradient = np.concatenate([np.atleast_1d(part) for part in gradient])
    np.testing.assert_allclose(gradient, point["grad_beta_theta_sigma"], rtol=1e-6)


def test_restricted_likelihood(mixed):
    y, _, name, _, restricted = mixed
    information, score, quad, logdet, _ = restricted(*estimates(name, "REML")[1:])
    beta = np.linalg.solve(information, score)
    constant = (len(y) - len(beta)) * np.log(2 * np.pi)
    reml = -0.5 * (constant + logdet + np.linalg.slogdet(information)[1] + quad - score @ beta)
    np.testing.assert_allclose(reml, read_json(name)["REML"]["logLik"], rtol=1e-9)
    np.testing.assert_allclose(beta, estimates(name, "REML")[0], rtol=1e-9)


def test_variance_components_against_stan():
    case = "stan_autodiff/vc_penicillin"
    expected, y = read_json(case), read_matrix(case, "y.csv")[:, 0]
    kinships = [read_matrix(case, f"K{i}.csv") for i in (1, 2, 3)]
    designs = [square_root(kinship) for kinship in kinships]
    beta, theta = pt.dvector("beta"), pt.dvector("theta")
    terms = [(pt.sqrt(theta[i]), design) for i, design in enumerate(designs)]
    cov = effects(*terms) + gg.cov.Diagonal(theta[3])
    logp = gg.logp(y, pt.dot(read_matrix(case, "X.csv"), beta), cov)
    function = interpreted([beta, theta], [logp, *pt.grad(logp, [beta, theta])])
    logp, dbeta, dtheta = function(np.atleast_1d(expected["beta"]), expected["theta"])
    np.testing.assert_allclose(logp, expected["logp"], rtol=1e-8)
    np.testing.assert_allclose(dbeta, np.atleast_1d(expected["dbeta"]), rtol=1e-8)
    np.testing.assert_allclose(dtheta, expected["dtheta"], rtol=1e-8)
