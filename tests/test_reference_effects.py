"""``Effects`` and noise against lme4 and metafor: crossed, nested, correlated slopes."""

import numpy as np
import pytensor.tensor as pt
import pytest
from reference_cases import assert_normwise, read_columns, read_json, read_matrix, require
from registry import interpreted

import pm_gaussgrad as gg

MODELS = {
    "lmm_dyestuff": [("Batch", ["1"])],
    "lmm_sleepstudy": [("Subject", ["1", "Days"])],
    "lmm_penicillin_crossed": [("plate", ["1"]), ("sample", ["1"])],
    "lmm_orthodont": [("Subject", ["1"])],
}
require(*MODELS, "meta_konstantopoulos_3level")


def lower_triangle(theta, k):
    """A matrix (k, k) of its entries by columns."""
    columns, rows = np.triu_indices(k)
    return pt.zeros((k, k))[rows, columns].set(theta)


def mixed_model(name):
    """(beta, theta, sigma) -> log density and its gradient; theta is lme4's, by terms."""
    columns, y = read_columns(name), read_matrix(name, "y.csv")[:, 0]
    beta, theta, sigma = pt.dvector("beta"), pt.dvector("theta"), pt.dscalar("sigma")
    cov, first = gg.cov.Diagonal(sigma**2), 0
    for group, names in MODELS[name]:
        k = len(names)
        stop = first + k * (k + 1) // 2
        factor = sigma * lower_triangle(theta[first:stop], k)
        own = [np.ones(len(y)) if x == "1" else np.array(columns[x], float) for x in names]
        cov += gg.cov.Effects(columns[group], factor @ factor.T, np.column_stack(own))
        first = stop
    logp = gg.logp(y, pt.dot(read_matrix(name, "X.csv"), beta), cov)
    wrt = [beta, theta, sigma]
    return interpreted(wrt, [logp, *pt.grad(logp, wrt)])


@pytest.mark.parametrize("name", MODELS)
def test_lme4(name):
    """At its estimates, and value and gradient (by finite differences) at another point."""
    function, expected = mixed_model(name), read_json(name)
    fit = expected["ML"]
    estimates = [np.array(list(fit[part].values()), float) for part in ("beta", "theta")]
    np.testing.assert_allclose(function(*estimates, fit["sigma"])[0], fit["logLik"], rtol=1e-9)
    point = expected["dense_point"]
    at = np.atleast_1d(point["beta"]), np.atleast_1d(point["theta"]), point["sigma"]
    logp, *gradient = function(*at)
    np.testing.assert_allclose(logp, point["logp"], rtol=1e-9)
    gradient = np.concatenate([np.atleast_1d(part) for part in gradient])
    np.testing.assert_allclose(gradient, point["grad_beta_theta_sigma"], rtol=1e-6)


def test_meta_analysis():
    """Schools in districts; the variances of the studies are known."""
    columns = read_columns("meta_konstantopoulos_3level")
    y, known = (np.array(columns[name], float) for name in ("yi", "vi"))
    schools = [f"{a} {b}" for a, b in zip(columns["district"], columns["school"], strict=True)]
    wrt = mu, between, within = pt.dscalars("mu", "between", "within")
    cov = gg.cov.Effects(columns["district"], between) + gg.cov.Effects(schools, within)
    logp = gg.logp(y, mu, cov + gg.cov.Diagonal(known))
    function = interpreted(wrt, [logp, *pt.grad(logp, wrt)])
    expected = read_json("meta_konstantopoulos_3level")
    fit, point = expected["ML"], expected["point"]
    np.testing.assert_allclose(function(fit["mu"], *fit["sigma2"])[0], fit["logLik"], rtol=1e-9)
    logp, *gradient = function(*point["par"])
    np.testing.assert_allclose(logp, point["logp"], rtol=1e-9)
    assert_normwise(gradient, point["grad"], 1e-6)
