"""Factor models, mixed models and regressions through ``LowRank`` and its sums.

Random effects and regression coefficients with normal priors are factors: their design matrix
times their standard deviation. The same cases as through ``Dense`` elsewhere, and their stated
tolerances: scikit-learn's factor analysis, lme4, Stan's gradients, and posteriors by quadrature.
"""

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, read_columns, read_json, read_matrix, read_npz, require
from registry import interpreted
from scipy import stats
from test_reference_posteriors import grid, integrate, log_axis

import pm_gaussgrad as gg

MIXED = {"lmm_dyestuff": ["Batch"], "lmm_penicillin_crossed": ["plate", "sample"]}
HIGHPREC = ["lowrank_n40_r5_d1e-2_draw", "lowrank_n40_r5_d1e-2_rough"]
require(
    *MIXED, "lowrank_fa_wine", "stan_autodiff", "pdb_sblri", "pdb_radon_mn", "pdb_eight_schools"
)
require("highprec")


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


# Posteriors by quadrature.


def assert_moments(moments, expected, atol):
    """Mean and standard deviation, in units of the latter."""
    mean, sd = expected["mean"], expected["sd"]
    np.testing.assert_allclose((np.array(moments) - [mean, sd]) / sd, 0, atol=atol)


def test_eight_schools_without_mean():
    data, expected = read_json("pdb_eight_schools", "data.json"), read_json("pdb_eight_schools")
    axis = log_axis(1e-6, 1e4, 231)
    [tau] = grid(axis)
    variances = np.array(data["sigma"]) ** 2 + tau[:, None] ** 2
    cov = gg.cov.LowRank(np.full((8, 1), 5.0)) + gg.cov.Diagonal(variances)
    log_density = row_densities(data["y"], 0, cov) + stats.halfcauchy.logpdf(tau, scale=5)
    log_evidence, [moments] = integrate(log_density, axis)
    reference = expected["quadrature_info"]["log_evidence"]
    np.testing.assert_allclose(log_evidence, reference, atol=1e-4)
    assert_moments(moments, expected["quadrature"]["tau"], 1e-3)


def test_regression_without_coefficients():
    """beta ~ N(0, 10^2 I) integrated out; its means given sigma are 100 X' Sigma^-1 y."""
    data, expected = read_json("pdb_sblri", "data.json"), read_json("pdb_sblri")
    y, design = np.array(data["y"]), np.array(data["X"])
    axis = log_axis(0.5, 2, 80)
    [sigma] = grid(axis)
    cov = gg.cov.LowRank(10 * design) + gg.cov.Diagonal(sigma[:, None] ** 2, size=len(y))
    # The stored evidence has the normal density, without the 2 of its positive half.
    log_density = row_densities(y, 0, cov) + stats.norm.logpdf(sigma, scale=10)
    log_evidence, [moments] = integrate(log_density, axis)
    reference = expected["quadrature_info"]["log_evidence"]
    np.testing.assert_allclose(log_evidence, reference, atol=1e-4)
    assert_moments(moments, expected["quadrature"]["sigma"], 1e-3)
    summary = expected["summary"]["sigma"]
    assert abs(moments[0] - summary["mean"]) < 4 * summary["mcse_mean"]

    weights = np.exp(log_density - log_density.max()) * axis[1]
    given_sigma = 100 * cov.solve(y).eval(mode="FAST_COMPILE") @ design
    means = weights @ given_sigma / weights.sum()
    for j, mean in enumerate(means):
        reference = expected["quadrature"][f"beta[{j + 1}]"]
        np.testing.assert_allclose(mean, reference["mean"], atol=1e-3 * reference["sd"])


@pytest.fixture(scope="module")
def radon():
    """Log radon, its county's design matrix, log uranium, and the floor."""
    data = read_json("pdb_radon_mn", "data.json")
    y, uranium, floor = (np.array(data[k]) for k in ("log_radon", "log_uppm", "floor_measure"))
    return y, indicator(data["county_idx"]), uranium, floor.astype(float)


def legendre_axis(low, high, count):
    """Gauss-Legendre rule, for scales that may be zero."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return low + (high - low) * (points + 1) / 2, weights * (high - low) / 2


def integrated(y, terms, fixed, axes, beyond=(0.0, 0)):
    """Log evidence and moments of scales with N+(0, 1) priors, the last that of the noise.

    ``beyond`` is a sum of squares of so many further observations, which hold noise alone.
    """
    scales = [pt.dscalar() for _ in axes]
    cov = effects(*zip(scales, terms, strict=False), (10.0, fixed))
    function = interpreted(scales, gg.logp(y, 0, cov + gg.cov.Diagonal(scales[-1] ** 2)))
    points = grid(*axes)
    log_density = np.array([function(*point) for point in zip(*points, strict=True)])
    log_density += sum(stats.halfnorm.logpdf(scale) for scale in points)
    variance = points[-1] ** 2
    log_density -= 0.5 * (beyond[0] / variance + beyond[1] * np.log(2 * np.pi * variance))
    return integrate(log_density, *axes)


def assert_radon(result, names, moments, log_evidence):
    np.testing.assert_allclose(result[0], log_evidence, atol=1e-3)
    for name, found in zip(names, result[1], strict=True):
        assert_moments(found, moments[name], 2e-3)


def test_varying_intercepts(radon):
    y, county, uranium, floor = radon
    fixed = np.column_stack([np.ones_like(y), uranium, floor])
    axes = legendre_axis(0, 0.45, 18), log_axis(0.62, 0.86, 11)
    result = integrated(y, [county], fixed, axes)
    expected = read_json("pdb_radon_mn")
    evidence = expected["quadrature_info"]["log_evidence"]
    assert_radon(result, ["sigma_alpha", "sigma_y"], expected["quadrature"], evidence)


def test_varying_intercepts_and_slopes(radon):
    """In the coordinates that the effects reach; the others hold noise alone."""
    y, county, _, floor = radon
    terms = [county, floor[:, None] * county]
    basis, singular_values, _ = np.linalg.svd(np.column_stack(terms), full_matrices=False)
    basis = basis[:, singular_values > 1e-8]
    reached = basis.T @ y
    result = integrated(
        reached,
        [basis.T @ term for term in terms],
        basis.T @ np.column_stack([np.ones_like(y), floor]),
        (log_axis(0.15, 0.65, 10), legendre_axis(0, 0.9, 16), log_axis(0.62, 0.84, 10)),
        (y @ y - reached @ reached, len(y) - len(reached)),
    )
    expected = read_json("pdb_radon_mn")["quadrature_variable_intercept_slope"]
    names = ["sigma_alpha", "sigma_beta", "sigma_y"]
    assert_radon(result, names, expected["summary"], expected["log_evidence"])
