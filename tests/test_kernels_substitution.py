"""Triangular solves against NumPy; the kernels are plain Python, and called as such."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pm_gaussgrad.kernels.substitution import backward_substitution, forward_substitution

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
