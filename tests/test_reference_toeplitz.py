"""Time series with a Toeplitz covariance against R, statsmodels, Stan and 120-digit arithmetic.

Autocovariances of ARMA(p, 1) processes at all lags solve the Yule-Walker equations, one linear
system; its gradient is PyTensor's own. All series share one compiled function.
"""

import functools

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, read_columns, read_json, read_matrix, read_npz, require
from registry import interpreted
from scipy.linalg import toeplitz

import pm_gaussgrad as gg

require("highprec", "stan_autodiff", "ts_lh_ar1", "sm_sunspots_ar3")

EPS = np.finfo(float).eps
ARIMA = ["ts_lh_ar1", "ts_lh_arma11", "ts_lakehuron_ar2_trend", "ts_nile_ar2"]
SARIMAX = ["sm_macro_infl_ar4_reg", "sm_sunspots_ar3"]


def lag_matrices(n, order):
    """P_i with (P_i gamma)_k = gamma_|k-i|, i = 1, ..., order."""
    k = np.arange(n)
    return np.array([np.eye(n)[np.abs(k - i)] for i in range(1, order + 1)])


def arma():
    """y, X, lags and parameters of ARMA(p, 1) around X beta, all sizes free; and the covariance."""
    y, ar, beta = pt.dvectors("y", "ar", "beta")
    ma, sigma2 = pt.dscalars("ma", "sigma2")
    X, lags = pt.dmatrix("X"), pt.dtensor3("lags")
    n = y.shape[0]
    system = pt.eye(n) - (ar[:, None, None] * lags).sum(axis=0)
    impulses = pt.zeros(n)[0].set(1 + ma * (ar[0] + ma))[1].set(ma)
    autocovariance = pt.linalg.solve(system, sigma2 * impulses, b_ndim=1)
    return [y, X, lags, beta, ar, ma, sigma2], gg.cov.Toeplitz(autocovariance)


@functools.cache
def arma_density():
    """Log density and gradients."""
    [y, X, lags, beta, ar, ma, sigma2], cov = arma()
    logp = gg.logp(y, X @ beta, cov)
    gradients = pt.grad(logp, [beta, ar, ma, sigma2])
    return interpreted([y, X, lags, beta, ar, ma, sigma2], [logp, *gradients])


def evaluate(y, X, beta, ar, ma, sigma2):
    """logp and its gradient with respect to (beta, ar, ma, sigma2)."""
    lags = lag_matrices(len(y), len(ar))
    logp, *gradients = arma_density()(y, X, lags, beta, ar, ma, sigma2)
    return logp, gradients


def arima(case):
    """y, X, the stored numbers, and a function that splits R's parameters."""
    expected, data = read_json(case), read_columns(case)
    y = np.array(data["y"], float)
    columns = [np.ones_like(y)] + [np.array(data[x], float) for x in data if x not in ("t", "y")]
    p, _, q = expected["order"]

    def split(par):
        ar, ma, beta = np.split(np.asarray(par, float), [p, p + q])
        return {"beta": beta, "ar": ar, "ma": ma[0] if q else 0.0}

    return y, np.column_stack(columns), expected, split


@pytest.mark.parametrize("case", ARIMA)
def test_arima_at_the_maximum(case):
    require(case)
    y, X, expected, split = arima(case)
    logp, _ = evaluate(y, X, sigma2=expected["sigma2"], **split([*expected["coef"].values()]))
    np.testing.assert_allclose(logp, expected["logLik"], rtol=1e-9)


@pytest.mark.parametrize("case", ARIMA)
def test_arima_away_from_the_maximum(case):
    require(case)
    y, X, expected, split = arima(case)
    [point] = expected["points"]
    *par, sigma2 = point["par"]
    logp, (beta, ar, ma, variance) = evaluate(y, X, sigma2=sigma2, **split(par))
    np.testing.assert_allclose(logp, point["logp"], rtol=1e-9)
    gradient = [*ar, *[ma] * expected["order"][2], *beta, variance]
    np.testing.assert_allclose(gradient, point["grad"], rtol=1e-5)


@pytest.mark.parametrize("case", SARIMAX)
@pytest.mark.parametrize("point", [0, 1])
def test_sarimax(case, point):
    """At the first point, the maximum, scores are rounding and truncation: in standard errors."""
    require(case)
    data, expected = read_npz(case, "data.npz"), read_json(case)
    stored, k = expected["points"][point], data["X"].shape[1]
    *par, sigma2 = stored["par"]
    logp, (beta, ar, _, variance) = evaluate(
        data["y"], data["X"], np.array(par[:k]), np.array(par[k:]), 0.0, sigma2
    )
    np.testing.assert_allclose(logp, stored["logp"], rtol=1e-10)
    information = expected["n"] * np.diag(stored["obs_info_harvey"])
    np.testing.assert_allclose(
        np.array([*beta, *ar, variance]) / np.sqrt(information),
        np.array(stored["score_complex_step"]) / np.sqrt(information),
        rtol=1e-8,
        atol=1e-8,
    )


@pytest.mark.parametrize("case", SARIMAX)
def test_expected_information(case):
    """Harvey's information of SARIMAX has expectations in the entries of beta and of sigma2.

    Those of the autoregression alone depend on the data, and agree with expectations at the
    maximum within sampling error, 1 / sqrt(n).
    """
    require(case)
    [y, X, lags, beta, ar, ma, sigma2], cov = arma()
    expected = gg.fisher_information(X @ beta, cov, [beta, ar, sigma2])
    information = interpreted(
        [y, X, lags, beta, ar, ma, sigma2], expected, on_unused_input="ignore"
    )
    data, stored = read_npz(case, "data.npz"), read_json(case)
    point, k = stored["points"][0], data["X"].shape[1]
    *par, variance = point["par"]
    split = np.array(par[:k]), np.array(par[k:])
    got = information(
        data["y"], data["X"], lag_matrices(len(data["y"]), split[1].size), *split, 0.0, variance
    )
    harvey = stored["n"] * np.array(point["obs_info_harvey"])
    scale = np.sqrt(np.diag(harvey))
    got, harvey = got / np.outer(scale, scale), harvey / np.outer(scale, scale)
    np.testing.assert_allclose(got[:k, :k], harvey[:k, :k], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(got[-1], harvey[-1], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(got[k:, k:], harvey[k:, k:], atol=1 / np.sqrt(stored["n"]))


def test_local_level():
    """First differences of a random walk with noise: a tridiagonal covariance."""
    case = "ts_nile_local_level"
    require(case)
    expected = read_json(case)
    difference = np.diff(np.array(read_columns(case)["y"], float))
    eta, epsilon = pt.dscalars("eta", "epsilon")
    column = pt.zeros(difference.size)[0].set(eta + 2 * epsilon)[1].set(-epsilon)
    logp = gg.logp(difference, 0.0, gg.cov.Toeplitz(column))
    function = interpreted([eta, epsilon], [logp, *pt.grad(logp, [eta, epsilon])])
    value, *gradient = function(1469.1, 15098.5)
    np.testing.assert_allclose(value, expected["diff_loglik_at_published"], rtol=1e-9)
    # Next to the maximum; the stored gradient is of differences of a value of 600.
    np.testing.assert_allclose(gradient, expected["grad_at_published"], rtol=1e-9, atol=1e-10)
    value, *_ = function(*expected["diff_ML"])
    np.testing.assert_allclose(value, expected["diff_loglik_max"], rtol=1e-9)


def test_stan_ar1():
    case = "stan_autodiff/ar1_lh"
    expected, y = read_json(case), read_matrix(case, "y.csv")[:, 0]
    sigma, phi = expected["theta"]
    X = read_matrix(case, "X.csv")
    logp, (beta, ar, _, variance) = evaluate(
        y, X, np.array([expected["beta"]]), np.array([phi]), 0.0, sigma**2
    )
    np.testing.assert_allclose(logp, expected["logp"], rtol=1e-8)
    np.testing.assert_allclose(beta, [expected["dbeta"]], rtol=1e-8)
    np.testing.assert_allclose([2 * sigma * variance, *ar], expected["dtheta"], rtol=1e-8)


def matrices():
    """The stored high-precision cases whose matrix of doubles is Toeplitz."""
    for entry in read_json("highprec", "index.json")["cases"]:
        if not entry["name"].startswith("param_"):
            sigma = read_npz("highprec", f"{entry['name']}.npz")["Sigma"]
            if np.array_equal(sigma, toeplitz(sigma[0])):
                yield entry["name"]


@functools.cache
def matrix_density():
    y, mu, column = pt.dvectors("y", "mu", "column")
    cov = gg.cov.Toeplitz(column)
    logp = gg.logp(y, mu, cov)
    outputs = [logp, *cov.quad_logdet(y - mu), *pt.grad(logp, [y, column])]
    return interpreted([y, mu, column], [*outputs, 1 / cov.inverse_diagonal()])


@pytest.mark.parametrize("name", matrices())
def test_high_precision(name):
    """Within 10 cond(Sigma) eps; gradients are sums along the diagonals of the stored one."""
    stored = read_npz("highprec", f"{name}.npz")
    column = stored["Sigma"][0]
    n, cond = column.size, np.linalg.cond(stored["Sigma"] / column[0])
    sums = [np.trace(stored["dSigma"], k) * (2 if k else 1) for k in range(n)]
    expected = [stored[k] for k in ("logp", "quad", "logdet", "dy")] + [sums, stored["loo_var"]]
    for actual, value in zip(
        matrix_density()(stored["y"], stored["mu"], column), expected, strict=True
    ):
        assert_normwise(actual, value, 10 * max(cond, 10) * EPS)


COLUMNS = {
    # theta and the lag, in steps, to the autocovariance
    "ar1": lambda theta, k: theta[0] ** 2 / (1 - theta[1] ** 2) * theta[1] ** k,
    "cs": lambda theta, k: theta[0] * pt.switch(pt.eq(k, 0), 1, theta[1]),
    "se": lambda theta, k: (
        theta[0] ** 2 * pt.exp(-((k / 39 / theta[1]) ** 2) / 2)
        + theta[2] ** 2 * pt.switch(pt.eq(k, 0), 1, 0)
    ),
}
PARAMETRIC = [
    "ar1_n40_phi0.5",
    "ar1_n40_phi0.99",
    "cs_n40_rho0.3",
    "cs_n40_rho0.999",
    "cs_n40_rho0.9999999999",
    "se_n40_sn0.1",
    "se_n40_sn1e-05",
    "se_n40_sn1e-07",
]


@functools.cache
def parametric_density(kind):
    y, theta, k = pt.dvectors("y", "theta", "k")
    column = COLUMNS[kind](theta, k)
    logp = gg.logp(y, 0.0, gg.cov.Toeplitz(column))
    return interpreted([y, theta, k], [logp, pt.grad(logp, theta), column])


@pytest.mark.parametrize("name", PARAMETRIC)
def test_high_precision_of_parameters(name):
    stored = read_npz("highprec", f"param_{name}.npz")
    y = stored["y"] - stored["mu"]
    logp, gradient, column = parametric_density(name[:3].rstrip("_"))(
        y, stored["theta"], np.arange(40.0)
    )
    bound = np.linalg.cond(toeplitz(column)) * EPS
    np.testing.assert_allclose(logp, stored["logp"], rtol=bound)
    # In units of the parameters: the sensitivity to the logarithm of each. The chain rule through
    # the column adds terms that are up to 3,700 times their sum (phi = 0.99), so that the order of
    # a sum, which differs between machines, ends on either side of the bound itself; the tolerance
    # is that of the cases' README, ten times as large.
    assert_normwise(gradient * stored["theta"], stored["dtheta"] * stored["theta"], 10 * bound)
