"""The Kronecker kernels by themselves, compiled, against matrices written out.

Kernels are compiled anew for each number of factors: of two by the rows of the registry, of three
here. Of other sizes they are interpreted.
"""

from functools import reduce

import numpy as np
import pytest
from numpy.testing import assert_allclose
from registry import positive_definite
from test_kernels import compiled

from pm_gaussgrad.kernels import kronecker, lapack
from pm_gaussgrad.kernels.symmetric import copy_lower

pytestmark = pytest.mark.compiled


def _decomposed(matrix):
    values = np.empty(matrix.shape[0], matrix.dtype)
    done = lapack.eigen(matrix, values)
    return done, matrix, values


def _multiplied(left, right):
    out = np.full((left.shape[0], right.shape[1]), np.nan, left.dtype)
    lapack.matrix_product(left, right, out)
    return out


def _rotated(rows, size):
    out = np.empty_like(rows)
    kronecker.rotate(rows, size, out)
    return out


DECOMPOSED, MULTIPLIED, ROTATED = map(compiled, (_decomposed, _multiplied, _rotated))
OUTER_PRODUCTS = compiled(kronecker.outer_products)
CHOLESKY = kronecker.cholesky_forward, kronecker.cholesky_pullback
SPECTRAL = kronecker.spectral_forward, kronecker.spectral_pullback
COMPILED = {kernel: compiled(kernel) for kernel in (*CHOLESKY, *SPECTRAL)}


@pytest.mark.parametrize("n", [1, 2, 30])
def test_eigen(n, rng):
    """Eigenvectors are rows; the strict upper triangle is not read."""
    matrix = positive_definite(rng, n)
    done, vectors, values = DECOMPOSED(np.tril(matrix) + np.triu(np.full((n, n), np.nan), 1))
    assert done
    assert_allclose(values, np.linalg.eigvalsh(matrix), rtol=1e-12)
    assert_allclose((vectors.T * values) @ vectors, matrix, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_eigen_of_what_is_not_finite(entry):
    assert not DECOMPOSED(np.array([[1.0, 0.0], [entry, 1.0]]))[0]


@pytest.mark.parametrize("sizes", [(2, 3, 4), (1, 1, 1), (0, 2, 3), (2, 0, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrix_product(sizes, dtype, rng):
    """Of arrays in C order and of their transposes; an empty sum is zero."""
    m, inner, n = sizes
    left, right = rng.normal(size=(m, inner)).astype(dtype), rng.normal(size=(inner, n))
    right = right.astype(dtype)
    rtol = 1e-5 if dtype == "float32" else 1e-12
    for a in (left, np.ascontiguousarray(left.T).T):
        for b in (right, np.ascontiguousarray(right.T).T):
            assert_allclose(MULTIPLIED(a, b), left @ right, rtol=rtol, atol=rtol)


def test_rotate_moves_the_last_axis_in_front(rng):
    rows = rng.normal(size=(2, 24))
    expected = rows.reshape(2, 2, 3, 4).transpose(0, 3, 1, 2).reshape(2, 24)
    np.testing.assert_array_equal(ROTATED(rows, 4), expected)


def test_outer_products_are_cyclic():
    values = tuple(np.arange(1.0, 1 + size) for size in (2, 3, 4))
    a, b, c = values
    assert_allclose(OUTER_PRODUCTS(values, 0, 3), np.kron(a, np.kron(b, c)))
    assert_allclose(OUTER_PRODUCTS(values, 2, 2), np.kron(c, a))
    assert_allclose(OUTER_PRODUCTS(values, 3, 2), np.kron(a, b))
    assert_allclose(OUTER_PRODUCTS(values, 1, 0), [1.0])


def _written_out(residual, factors, noise, quad_bar, logdet_bar):
    """quad, logdet, alpha and the cotangents of the factors and of the noise, entry by entry."""
    sigma = reduce(np.kron, factors) + noise * np.eye(residual.shape[1])
    inverse = np.linalg.inv(sigma)
    alpha = residual @ inverse
    sigma_bar = logdet_bar * inverse - (alpha.T * quad_bar) @ alpha
    bars = [np.empty_like(factor) for factor in factors]
    for j, bar in enumerate(bars):
        for index in np.ndindex(bar.shape):
            entry = np.zeros_like(bar)
            entry[index] = 1
            bar[index] = (
                sigma_bar * reduce(np.kron, [*factors[:j], entry, *factors[j + 1 :]])
            ).sum()
    quad = (alpha * residual).sum(axis=1)
    return quad, np.linalg.slogdet(sigma)[1], alpha, bars, np.trace(sigma_bar)


@pytest.mark.parametrize("sizes", [(3, 4), (4, 3), (1, 5), (1, 1), (14, 15), (2, 3, 4), (6,)])
@pytest.mark.parametrize("m", [0, 1, 3])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_forward_and_pullback(sizes, m, noise, rng):
    n = int(np.prod(sizes))
    factors = [positive_definite(rng, size) for size in sizes]
    residual, quad_bar = rng.normal(size=(m, n)), rng.uniform(-1, 1, size=m)
    *expected, bars, noise_bar = _written_out(residual, factors, noise, quad_bar, 0.7)
    lower, found = tuple(map(copy_lower, factors)), tuple(np.empty_like(x) for x in factors)
    forward, pullback = SPECTRAL if noise else CHOLESKY
    if len(sizes) == 3:
        forward, pullback = COMPILED[forward], COMPILED[pullback]
    if noise:
        values = tuple(np.empty(size) for size in sizes)
        *got, rotated = forward(residual, lower, values, noise)
        got_noise = pullback(rotated, lower, values, noise, quad_bar, 0.7, found)
        assert_allclose(got_noise, noise_bar, rtol=1e-10, atol=1e-10)
    else:
        *got, white = forward(residual, lower)
        pullback(white, lower, quad_bar, 0.7, found)
    for a, b in zip([*got, *found], [*expected, *bars], strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-11 * n)
