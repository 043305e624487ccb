"""BLAS products by their names, compiled, at sizes that include nothing."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_kernels import compiled

from pm_gaussgrad.kernels import lapack


def _gram(rows, out):
    lapack.gram(rows, out)
    return out


def _product(left, right, out, transpose_left, transpose_right):
    lapack.product(left, right, out, transpose_left, transpose_right)
    return out


GRAM, PRODUCT = compiled(_gram), compiled(_product)


@pytest.mark.parametrize(("n", "k"), [(0, 2), (1, 3), (5, 2), (30, 20), (4, 0)])
def test_gram_writes_the_lower_triangle(n, k, rng):
    rows = rng.normal(size=(n, k))
    got = GRAM(rows, np.full((k, k), np.nan))
    assert_allclose(np.tril(got), np.tril(rows.T @ rows), rtol=1e-12, atol=1e-13)
    assert np.isnan(got[np.triu_indices(k, 1)]).all()


@pytest.mark.parametrize(
    ("p", "q", "inner"), [(2, 3, 4), (1, 5, 1), (20, 30, 10), (0, 2, 3), (2, 3, 0)]
)
@pytest.mark.parametrize("transpose_left", [False, True])
@pytest.mark.parametrize("transpose_right", [False, True])
def test_product(p, q, inner, transpose_left, transpose_right, rng):
    left, right = rng.normal(size=(p, inner)), rng.normal(size=(inner, q))
    got = PRODUCT(
        np.ascontiguousarray(left.T) if transpose_left else left,
        np.ascontiguousarray(right.T) if transpose_right else right,
        np.full((p, q), np.nan),
        transpose_left,
        transpose_right,
    )
    assert_allclose(got, left @ right, rtol=1e-12, atol=1e-13)
