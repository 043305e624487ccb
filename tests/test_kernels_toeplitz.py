"""Fourier transforms and Toeplitz algorithms by themselves, interpreted, against NumPy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import toeplitz

from pm_gaussgrad.kernels import fft as fourier
from pm_gaussgrad.kernels import toeplitz as kernels

SIZES = [1, 2, 5, 16, 33]


def column(n):
    """A damped wave and white noise."""
    return 1.3 * np.cos(0.7 * np.arange(n)) * 0.9 ** np.arange(n) + 0.2 * np.eye(1, n).ravel()


@pytest.mark.parametrize(("least", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (1000, 1024)])
def test_power_of_two(least, size):
    assert fourier.power_of_two(least) == size


@pytest.mark.parametrize("size", [2, 4, 8, 64])
def test_fft(size, rng):
    x = rng.normal(size=size) + 1j * rng.normal(size=size)
    roots = fourier.roots_of_unity(size)
    assert_allclose(fourier.fft(x.copy(), roots), np.fft.fft(x), rtol=1e-12, atol=1e-13)
    assert_allclose(fourier.inverse_fft(x.copy(), roots), np.fft.ifft(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n", SIZES)
def test_durbin(n):
    sigma = toeplitz(column(n))
    predictor, variances = kernels.durbin(column(n))
    first = np.linalg.inv(sigma)[:, 0]
    assert_allclose(predictor, first / first[0], rtol=1e-10, atol=1e-12)
    assert_allclose(variances, np.diag(np.linalg.cholesky(sigma)) ** 2, rtol=1e-10)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [-1.0, 0.5], [1.0, 1.0, 0.5], [1.0, 0.9, 0.0]])
def test_not_positive_definite(bad):
    *_, last = kernels.durbin(np.array(bad))[1]
    assert not last > 0


@pytest.mark.parametrize("n", SIZES)
def test_inverse_times(n, rng):
    rows = rng.normal(size=(3, n))
    predictor, variances = kernels.durbin(column(n))
    solved, quad = kernels.inverse_times(predictor, variances[-1], rows)
    expected = np.linalg.solve(toeplitz(column(n)), rows.T).T
    assert_allclose(solved, expected, rtol=1e-10, atol=1e-12)
    assert_allclose(quad, (rows * expected).sum(axis=1), rtol=1e-10)


@pytest.mark.parametrize("n", SIZES)
def test_inverse_times_of_rows_with_few_entries(n, rng):
    """Rows of the inverse take the place of transforms, and give the same."""
    rows = np.zeros((6, n))
    columns = np.sort(rng.choice(n, size=min(n, 3), replace=False))
    rows[:, columns] = rng.normal(size=(6, columns.size))
    predictor, variances = kernels.durbin(column(n))
    np.testing.assert_array_equal(kernels.support(rows), columns)
    expected = np.linalg.solve(toeplitz(column(n)), rows.T).T
    for times in (kernels.dense_inverse_times, kernels.inverse_times):
        solved, quad = times(predictor, variances[-1], rows)
        assert_allclose(solved, expected, rtol=1e-10, atol=1e-12)
        assert_allclose(quad, (rows * expected).sum(axis=1), rtol=1e-10)
    solved, quad = kernels.sparse_inverse_times(predictor, variances[-1], rows, columns)
    assert_allclose(solved, expected, rtol=1e-10, atol=1e-12)
    assert_allclose(quad, (rows * expected).sum(axis=1), rtol=1e-10)


def test_inverse_times_of_rows_of_both_kinds(rng):
    """Filled residuals among unit rows: each row is solved in the way that is its own."""
    n, m = 500, 40
    rows = np.eye(n)[rng.permutation(n)[:m]]
    rows[[0, 3, -1]] = rng.normal(size=(3, n))
    predictor, variances = kernels.durbin(column(n))
    few = kernels.sparse_rows(rows, predictor)
    np.testing.assert_array_equal(np.flatnonzero(~few), [0, 3, m - 1])
    solved, quad = kernels.inverse_times(predictor, variances[-1], rows)
    expected = np.linalg.solve(toeplitz(column(n)), rows.T).T
    assert_allclose(solved, expected, rtol=1e-10, atol=1e-12)
    assert_allclose(quad, (rows * expected).sum(axis=1), rtol=1e-10)


@pytest.mark.parametrize("n", SIZES)
def test_diagonal_sums(n, rng):
    rows, weights = rng.normal(size=(3, n)), rng.normal(size=3)
    predictor, variances = kernels.durbin(column(n))
    sums = kernels.diagonal_sums(predictor, variances[-1], 0.7, rows, weights)
    matrix = 0.7 * np.linalg.inv(toeplitz(column(n))) + (rows.T * weights) @ rows
    expected = [np.trace(matrix, k) + (np.trace(matrix, -k) if k else 0) for k in range(n)]
    assert_allclose(sums, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("n", SIZES)
def test_lower_factor(n, rng):
    rows = rng.normal(size=(3, n))
    factor = np.linalg.cholesky(toeplitz(column(n)))
    product = kernels.lower_times(column(n), rows)
    assert_allclose(product, rows @ factor.T, rtol=1e-10, atol=1e-12)
    assert_allclose(kernels.lower_solve(column(n), product), rows, rtol=1e-10, atol=1e-12)


CIRCULANT = pytest.mark.parametrize(
    ("covariances", "embeds"),
    [
        (column(1), True),
        (0.95 ** np.arange(7.0), True),  # convex: embeds, though it is far from zero at the end
        (np.ones(5), True),  # singular: no Cholesky factor
        (np.cos(0.3 * np.arange(9)) + 0.01 * np.eye(1, 9).ravel(), False),
        (np.exp(-0.5 * (np.arange(12) / 8.0) ** 2) + 0.001 * np.eye(1, 12).ravel(), False),
    ],
)


@CIRCULANT
def test_circulant_square_root(covariances, embeds):
    """S S' = Sigma where the embedding is non-negative and where it is not."""
    n = covariances.size
    rows = kernels.circulant_times(covariances, np.eye(4 * n))
    assert_allclose(rows.T @ rows, toeplitz(covariances), rtol=1e-10, atol=1e-12)
    eigenvalues = kernels.circulant_eigenvalues(covariances, fourier.power_of_two(2 * n))
    assert (eigenvalues.min() > -1e-12) == embeds


@CIRCULANT
def test_circulant_square_root_by_jax(covariances, embeds):
    jax = pytest.importorskip("jax")
    from pm_gaussgrad.kernels import toeplitz_jax

    rows = np.eye(4 * covariances.size)
    with jax.enable_x64(True):
        found = toeplitz_jax.circulant_times(jax.numpy.array(covariances), jax.numpy.array(rows))
    # Roots of eigenvalues that are zero but for rounding differ by 1e-8.
    assert_allclose(found, kernels.circulant_times(covariances, rows), rtol=1e-10, atol=1e-7)
