"""What is particular to Toeplitz: sums, edges of positive definiteness, draws, large n."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import INTERPRETED, interpreted
from scipy.linalg import toeplitz

import pm_gaussgrad as gg

COLUMN = np.array([2.0, 0.9, 0.3, 0.1])


def dense(cov):
    return cov.to_dense().eval(mode=INTERPRETED)


def test_sums():
    cov = gg.cov.Toeplitz(COLUMN)
    both = cov + gg.cov.Toeplitz(2 * COLUMN)
    assert type(both.resolved) is gg.cov.Toeplitz
    assert_allclose(dense(both), 3 * toeplitz(COLUMN))
    for noisy in (cov + gg.cov.Diagonal(0.5), gg.cov.Diagonal(0.5, size=4) + cov):
        assert type(noisy.resolved) is gg.cov.Toeplitz
        assert_allclose(dense(noisy), toeplitz(COLUMN) + 0.5 * np.eye(4))


def test_sum_with_a_batch_of_variances():
    noisy = gg.cov.Toeplitz(COLUMN) + gg.cov.Diagonal(np.array([[0.5], [1.0]]), size=4)
    expected = [toeplitz(COLUMN) + v * np.eye(4) for v in (0.5, 1.0)]
    assert_allclose(dense(noisy), expected)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: gg.cov.Toeplitz(1.0), TypeError, "`first_column` has 0 dim.*at least 1"),
        (lambda: gg.cov.Toeplitz("K"), TypeError, "`first_column` is a str"),
        (
            lambda: gg.cov.Toeplitz(COLUMN) + gg.cov.Toeplitz([1.0, 0.5]),
            ValueError,
            r"sizes \[4, 2\]",
        ),
        (lambda: gg.cov.Toeplitz(COLUMN) + gg.cov.Diagonal(1.0, 3), ValueError, r"sizes \[4, 3\]"),
        (
            lambda: (gg.cov.Toeplitz(COLUMN) + gg.cov.Diagonal(COLUMN)).plan(),
            TypeError,
            "has no algorithm",
        ),
        (lambda: gg.logp(np.ones(3), 0.0, gg.cov.Toeplitz(COLUMN)), ValueError, "expected n = 4"),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_not_positive_definite_is_rejected():
    """A log density of -inf, whose gradient is zero, whatever is wrong with the column."""
    column, y = pt.dvector("column"), np.array([0.3, -1.0, 0.2])
    logp = gg.logp(y, 0.0, gg.cov.Toeplitz(column))
    function = interpreted([column], [logp, pt.grad(logp, column)])
    for bad in (
        [0.0, 0.0, 0.0],
        [-1.0, 0.1, 0.1],
        [1.0, 1.0, 1.0],
        [1.0, 0.9, 0.0],
        [1.0, 2.0, 1.0],
        [np.nan, 0.5, 0.1],
        [1.0, 0.5, np.nan],
        [np.inf, 0.5, 0.1],
        [1.0, np.inf, 0.1],
    ):
        value, gradient = function(np.array(bad))
        assert value == -np.inf, bad
        assert_allclose(gradient, 0)


@pytest.mark.parametrize("embeds", [True, False])
def test_random_draws_have_the_covariance(embeds):
    """By circulant embedding, and where that is negative by the Cholesky factor."""
    lag = np.arange(6)
    column = 0.9**lag if embeds else np.cos(0.5 * lag) + 0.05 * (lag == 0)
    rv = gg.MvNormal.dist(np.arange(6.0), gg.cov.Toeplitz(column), shape=(20_000, 6))
    draws = pm.draw(rv, random_seed=20240917, mode=INTERPRETED)
    assert draws.shape == (20_000, 6)
    assert_allclose(draws.mean(axis=0), np.arange(6), atol=0.04)
    assert_allclose(np.cov(draws.T), toeplitz(column), atol=0.05)


def test_a_draw_takes_enough_white_noise():
    cov = gg.cov.Toeplitz(COLUMN)
    assert cov.noise_size(4) == 16
    with pytest.raises(ValueError, match="takes 4 n white ones"):
        cov.draw(np.zeros(15)).eval(mode=INTERPRETED)


@pytest.mark.compiled
def test_large_n():
    """n = 5,000, where one matrix is 200 MB; the tridiagonal inverse of AR(1) is known."""
    n, rho = 5_000, 0.8
    column, y = pt.dvector("column"), pt.dvector("y")
    cov = gg.cov.Toeplitz(column)
    quad, logdet = cov.quad_logdet(y)
    function = interpreted([column, y], [quad, logdet, pt.grad(quad + logdet, column)])
    values, data = rho ** np.arange(n), np.sin(np.arange(n))
    quad, logdet, gradient = function(values, data)
    innovations = data[1:] - rho * data[:-1]
    assert_allclose(quad, data[0] ** 2 + (innovations**2).sum() / (1 - rho**2), rtol=1e-12)
    assert_allclose(logdet, (n - 1) * np.log(1 - rho**2), rtol=1e-12)
    # Along Sigma itself the quadratic form falls by itself, the log determinant grows by n.
    assert_allclose((gradient * values).sum(), n - quad, rtol=1e-12)


def test_no_observations():
    column = pt.dvector("column")
    cov = gg.cov.Toeplitz(column)
    logp = cov.logp(np.zeros((2, 0)))
    outputs = [logp, pt.grad(logp.sum(), column), cov.color(np.zeros((2, 0)))]
    value, gradient, rows = interpreted([column], outputs)(np.zeros(0))
    np.testing.assert_array_equal(value, np.zeros(2))
    assert gradient.shape == (0,)
    assert rows.shape == (2, 0)
