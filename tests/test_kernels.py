"""Each array algorithm by itself, compiled."""

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose
from registry import positive_definite

from pm_gaussgrad.kernels import lapack, symmetric
from pm_gaussgrad.kernels.substitution import STRIP
from pm_gaussgrad.ops.compiled import _register, reachable_functions

pytestmark = pytest.mark.compiled


def compiled(function):
    for reached in reachable_functions(function):
        _register(reached)
    return numba.njit(error_model="numpy")(function)


def _factored(a):
    done = lapack.cholesky(a)
    return done, a


def _inverted(factor):
    lapack.inverse_from_cholesky(factor)
    return factor


def _solved(factor, rows):
    lapack.solve_lower(factor, rows)
    return rows


def _solved_transposed(factor, rows):
    lapack.solve_lower_transposed(factor, rows)
    return rows


def _multiplied(matrix, rows):
    out = np.empty_like(rows)
    lapack.symmetric_product(matrix, rows, out)
    return out


FACTORED, INVERTED = compiled(_factored), compiled(_inverted)
SOLVED, SOLVED_TRANSPOSED = compiled(_solved), compiled(_solved_transposed)
MULTIPLIED, LOG_PRODUCT = compiled(_multiplied), compiled(symmetric.log_product)


@pytest.mark.parametrize("n", [1, 2, 12, 13, 40])
@pytest.mark.parametrize("m", [0, 1, 3])
def test_lapack_reads_and_writes_lower_triangles(n, m, rng):
    """On both sides of the size below which plain loops replace BLAS."""
    matrix, rows = positive_definite(rng, n), rng.normal(size=(m, n))
    lower = np.tril(matrix) + np.triu(np.full((n, n), np.nan), 1)
    done, factor = FACTORED(lower.copy())
    assert done
    expected = np.linalg.cholesky(matrix)
    assert_allclose(np.tril(factor), expected, rtol=1e-12, atol=1e-14)
    assert_allclose(SOLVED(factor, rows.copy()), rows @ np.linalg.inv(expected).T, rtol=1e-9)
    assert_allclose(
        SOLVED_TRANSPOSED(factor, rows.copy()), rows @ np.linalg.inv(expected), rtol=1e-9
    )
    assert_allclose(MULTIPLIED(lower, rows), rows @ matrix, rtol=1e-10, atol=1e-12)
    inverse = np.tril(INVERTED(factor.copy()))
    assert_allclose(inverse, np.tril(np.linalg.inv(matrix)), rtol=1e-9, atol=1e-12)


def test_cholesky_reports_failure():
    assert not FACTORED(-np.eye(3))[0]


@pytest.mark.parametrize("n", [1, 5, 33, 70])
@pytest.mark.parametrize("m", [0, 1, 4])
def test_mirror_and_add(n, m, rng):
    lower, rows, weights = rng.normal(size=(n, n)), rng.normal(size=(m, n)), rng.normal(size=m)
    symmetric_matrix = np.tril(lower) + np.tril(lower, -1).T
    got = lower.copy()
    gram = (rows * weights[:, None]).T @ rows
    compiled(symmetric.mirror_and_add)(got, 0.7, rows, weights, gram)
    expected = 0.7 * symmetric_matrix + gram
    assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(got, got.T)


@pytest.mark.parametrize("m", [0, 1, 5, 3 * STRIP + 7])
def test_weighted_gram(m, rng):
    """By strips, the last of which is not full."""
    rows, weights = rng.normal(size=(m, 3)), rng.normal(size=m)
    got = compiled(symmetric.weighted_gram)(rows, weights)
    expected = (rows * weights[:, None]).T @ rows
    assert_allclose(np.tril(got), np.tril(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0.0),
        ([2.0, 0.5], 0.0),
        ([1e300] * 5 + [1e-300] * 5, 0.0),
        ([5e-324, 2.0], np.log(5e-324) + np.log(2.0)),
        ([0.0, 3.0], -np.inf),
        ([np.inf, 3.0], np.inf),
        ([-1.0, -1.0], np.nan),
        ([np.nan, 1.0], np.nan),
    ],
)
def test_log_product(values, expected):
    assert_allclose(LOG_PRODUCT(np.array(values)), expected, rtol=1e-15, atol=1e-14)


def test_log_product_loses_less_than_a_sum_of_logarithms(rng):
    from fractions import Fraction

    values = np.exp(rng.uniform(-20, 20, size=400))
    values = np.concatenate([values, 1 / values])
    exact = Fraction(1)
    for value in values:
        exact *= Fraction(float(value))
    reference = float(exact - 1)  # log(1 + x) = x to first order: the product is one to rounding
    assert abs(reference) < 1e-12
    assert abs(LOG_PRODUCT(values) - reference) < 2e-14
