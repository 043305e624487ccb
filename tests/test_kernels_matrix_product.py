"""The matrix product of kernels, compiled, in all combinations of layouts."""

import itertools

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose

import pm_gaussgrad.kernels.lapack_numba  # noqa: F401  (the compiled form)
from pm_gaussgrad.kernels import lapack

pytestmark = pytest.mark.compiled


@numba.njit
def _multiplied(left, right):
    out = np.full((left.shape[0], right.shape[1]), np.nan)
    lapack.matrix_product(left, right, out)
    return out


@pytest.mark.parametrize(("transposed_left", "transposed_right"), itertools.product([0, 1], [0, 1]))
def test_matrix_product(transposed_left, transposed_right, rng):
    """One row goes through another routine than several; no terms make zeros."""
    for m, k, n in [(3, 4, 5), (1, 4, 5), (1, 5, 1), (0, 4, 5), (3, 0, 2), (1, 0, 2)]:
        left = rng.normal(size=(k, m)).T if transposed_left else rng.normal(size=(m, k))
        right = rng.normal(size=(n, k)).T if transposed_right else rng.normal(size=(k, n))
        assert_allclose(_multiplied(left, right), left @ right, rtol=1e-13, atol=1e-14)
