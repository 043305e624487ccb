"""Triangular solves against NumPy; the kernels are plain Python, and called as such."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pm_gaussgrad.kernels.substitution import (
    STRIP,
    backward_substitution,
    forward_substitution,
    solve_short_rows,
)

pytestmark = pytest.mark.compiled


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("k", "c"), [(5, 3), (1, 4), (6, 1), (3, 0)])
def test_substitution(k, c, dtype, rng):
    factor = np.tril(rng.normal(size=(k, k))) + 3 * np.eye(k)
    garbage = (factor + np.triu(rng.normal(size=(k, k)), 1)).astype(dtype)
    columns = rng.normal(size=(k, c)).astype(dtype)
    for solve, matrix in ((forward_substitution, factor), (backward_substitution, factor.T)):
        solved = columns.copy()
        solve(garbage, solved)
        assert solved.dtype == dtype
        rtol = 1e-13 if dtype == "float64" else 1e-5
        assert_allclose(solved, np.linalg.solve(matrix, columns), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("m", [0, 1, 3, STRIP, STRIP + 1, 2 * STRIP + 5])
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_short_rows(m, n, rng):
    """Any number of strips; a row that is not finite is alone with it."""
    factor, rows = np.tril(rng.normal(size=(n, n))) + 3 * np.eye(n), rng.normal(size=(m, n))
    broken = slice(1, None, STRIP)
    rows[broken] = np.inf
    with np.errstate(all="ignore"):
        white, solved = np.empty_like(rows), np.empty_like(rows)
        quad = solve_short_rows(factor, rows, white, solved)
        over = rows.copy()
        assert_array_equal(solve_short_rows(factor, over, over, over), quad)
        assert_array_equal(over, solved)
        inverse = np.linalg.inv(factor)
        expected = rows @ inverse.T
    whole = np.isfinite(rows).all(axis=1)
    assert_allclose(white[whole], expected[whole], rtol=1e-12, atol=1e-13)
    assert_allclose(quad[whole], (expected[whole] ** 2).sum(axis=1), rtol=1e-12)
    assert_allclose(solved[whole], expected[whole] @ inverse, rtol=1e-12, atol=1e-13)
    assert n == 0 or not np.isfinite(quad[broken]).any()
