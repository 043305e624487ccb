"""Missing values: integrated out for every structure, however they come."""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from reference_cases import ROOT, assert_normwise, read_json, read_npz
from registry import BACKENDS, CASES, each, interpreted, is_index
from scipy.linalg import toeplitz
from scipy.stats import multivariate_normal

import pm_gaussgrad as gg
from pm_gaussgrad.density import log_density_where_observed

N = 5
NAN = np.nan
# Rows that miss the same entries, all but one, and different entries (one row all of them).
PATTERNS = {
    "common": [[0, 1, 1, 0, 1]] * 3,
    "all but one": [[1, 1, 1, 0, 1]] * 2,
    "by row": [[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]],
}


def _structure(case, values):
    """The structure with its index data and constants as such, and its free parameters."""
    tensors = case.tensors(n=N)
    free = case.differentiable(tensors)
    tensors = [t if t in free else pt.constant(v) for t, v in zip(tensors, values, strict=True)]
    return case.build(N, *tensors), free


@each(CASES)
def test_against_the_dense_submatrix(case, rng):
    values = case.draw(rng, N)
    cov, free = _structure(case, values)
    mu = pt.vector("mu", shape=(N,))
    arguments = [rng.normal(size=N), *case.differentiable(values)]
    dense = interpreted([mu, *free], cov.to_dense(), on_unused_input="ignore")(*arguments)
    for missing in PATTERNS.values():
        missing = np.array(missing, bool)
        y = np.where(missing, NAN, rng.normal(size=missing.shape))
        weights = rng.uniform(0.5, 1.5, size=len(y))
        logp = log_density_where_observed(cov.structure, pt.constant(y), mu, cov.parameters)
        twin, twin_sum = [], 0
        for row, weight in zip(y, weights, strict=True):
            o = np.flatnonzero(~np.isnan(row))
            if o.size == 0:
                twin.append(0)
                continue
            expected = multivariate_normal(arguments[0][o], dense[np.ix_(o, o)])
            twin.append(expected.logpdf(row[o]))
            block = gg.cov.Dense(cov.to_dense()[o[:, None], o])
            twin_sum += weight * gg.logp(row[o], mu[o], block)
        gradients = [pt.grad(f, [mu, *free], disconnected_inputs="ignore") for f in ((weights * logp).sum(), twin_sum)]
        function = interpreted([mu, *free], [logp, *gradients[0], *gradients[1]])
        got, *slopes = function(*arguments)
        assert_allclose(got, twin, rtol=1e-10)
        for i, (a, b) in enumerate(zip(slopes[: len(free) + 1], slopes[len(free) + 1 :])):
            a, b = (case.project(i - 1, x) for x in (a, b)) if i else (a, b)
            assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max(initial=1e-3))


def test_weekly_co2_with_gaps():
    """statsmodels' exact likelihood of a regression with AR(1) errors and missing weeks."""
    case = "sm_co2_weekly_missing_ar1"
    if not (ROOT / case).is_dir():
        pytest.skip(f"reference case absent: {case}")
    data, points = read_npz(case, "data.npz"), read_json(case)["points"]
    y, X = data["y"], data["X"]
    beta, phi, sigma2 = pt.vector("beta", shape=(4,)), pt.scalar("phi"), pt.scalar("sigma2")
    wrt, variance = [beta, phi, sigma2], sigma2 / (1 - phi**2)
    structures = [
        gg.cov.AR1(variance, phi),
        gg.cov.Toeplitz(variance * phi ** np.arange(len(y))),
        gg.cov.Dense(variance * phi ** toeplitz(np.arange(len(y)))),
    ]
    for cov in structures:
        logp = gg.logp(y, X @ beta, cov)
        function = interpreted(wrt, [logp, *pt.grad(logp, wrt)])
        for point in points:
            par = point["par"]
            value, *score = function(par[:4], par[4], par[5])
            assert_allclose(value, point["logp"], rtol=1e-10)
            assert_normwise(np.hstack(score), point["score_complex_step"], 1e-8)
