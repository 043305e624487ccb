"""Symmetric matrices of which kernels hold the lower triangle, and rows of vectors."""

import math

import numpy as np

from pm_gaussgrad.kernels.lapack import inverse_from_cholesky

# Tiles of 32 x 32 doubles: the strided writes of the mirrored half stay in the first-level cache.
_TILE = 32
_LOG_2 = math.log(2)
# Products of up to this many multiplications cost less than the call of a BLAS routine.
_SMALL = 512


def copy_lower(matrix):
    """A C-contiguous copy of the lower triangle; the strict upper one is left undefined."""
    copied = np.empty(matrix.shape, matrix.dtype)
    for i in range(matrix.shape[0]):
        for j in range(i + 1):  # numba takes 3 s to compile the assignment of a slice
            copied[i, j] = matrix[i, j]
    return copied


def copy_rows(rows):
    """A C-contiguous copy, whatever the memory layout of the argument."""
    copied = np.empty(rows.shape, rows.dtype)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            copied[i, j] = rows[i, j]
    return copied


def rows_dot(a, b):
    """Dot product of each pair of rows of C-contiguous arrays: (m, n), (m, n) -> (m,)."""
    products = np.zeros(a.shape[0], a.dtype)
    for i in range(a.shape[0]):
        products[i] = np.dot(a[i], b[i])
    return products


def log_product(values):
    """log(v_1 v_2 ... v_n), and NaN where a value is negative.

    Mantissas are multiplied and exponents added, which loses less than a sum of logarithms of
    both signs, and takes one logarithm.
    """
    mantissa, exponent = 1.0, 0
    for value in values:
        if value < 0:
            return np.nan
        mantissa, shift = math.frexp(mantissa * value)
        exponent += shift
    return math.log(mantissa) + exponent * _LOG_2 if mantissa > 0 else np.log(mantissa)


def weighted_product(left, right, weights):
    """Sum of ``weights[i] * outer(left[i], right[i])``: (m, n), (m, n), (m,) -> (n, n)."""
    m, n = left.shape
    if m * n * n <= _SMALL:
        product = np.zeros((n, n), left.dtype)
        for i in range(m):
            for j in range(n):
                weighted = weights[i] * left[i, j]
                for k in range(n):
                    product[j, k] += weighted * right[i, k]
        return product
    scaled = copy_rows(left)
    for i in range(m):
        scaled[i] *= weights[i]
    return np.dot(scaled.T, copy_rows(right))


def mirror_and_add(lower, scale, rows, weights):
    """Overwrite ``lower`` (n, n) by the full ``scale * S + sum_i weights_i rows_i rows_i'``.

    S is the symmetric matrix whose lower triangle ``lower`` holds. One row is folded into
    the single pass over the matrix; several go through one matrix product first.
    """
    n = lower.shape[0]
    single = rows.shape[0] == 1
    row = copy_rows(rows[:1]).ravel()
    gram = np.empty((0, 0), lower.dtype) if single else weighted_product(rows, rows, weights)
    for top in range(0, n, _TILE):
        for left in range(0, top + 1, _TILE):
            for i in range(top, min(top + _TILE, n)):
                stop = min(left + _TILE, i + 1)
                if single:
                    weighted = weights[0] * row[i]
                    for j in range(left, stop):
                        lower[i, j] = scale * lower[i, j] + weighted * row[j]
                else:
                    for j in range(left, stop):
                        lower[i, j] = scale * lower[i, j] + gram[i, j]
                for j in range(left, stop):
                    lower[j, i] = lower[i, j]


def adjoint_from_factor(factor, rows, weights, scale):
    """Overwrite ``factor`` (n, n) by ``scale * (L L')^-1 + sum_i weights_i rows_i rows_i'``."""
    if scale == 0:
        factor[:] = 0
    else:
        inverse_from_cholesky(factor)
    mirror_and_add(factor, scale, rows, weights)
    return factor
