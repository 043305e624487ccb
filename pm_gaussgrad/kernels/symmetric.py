"""Symmetric matrices of which kernels hold the lower triangle, and rows of vectors."""

import math

import numpy as np

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.lapack import inverse_from_cholesky
from pm_gaussgrad.kernels.substitution import STRIP

# Tiles of 32 x 32 doubles: the strided writes of the mirrored half stay in the first-level cache.
_TILE = 32
_LOG_2 = math.log(2)
# Products of up to this many multiplications cost less than the call of a BLAS routine.
_SMALL = 512


def copy_lower(matrix):
    """A C-contiguous copy of the lower triangle; the strict upper one is left undefined."""
    copied = np.empty(matrix.shape, matrix.dtype)
    write_lower(matrix, copied)
    return copied


def write_lower(matrix, copied):
    """Copy the lower triangle, unless to the same memory; the strict upper one is left alone."""
    if copied.ctypes.data == matrix.ctypes.data:
        return
    for i in range(matrix.shape[0]):
        for j in range(i + 1):  # numba takes 3 s to compile the assignment of a slice
            copied[i, j] = matrix[i, j]


@apart("float64 2")
def is_symmetric(matrix):
    """1.0 where a matrix (n, n) is symmetric, 0.0 where it is not.

    Four rows go against four columns, whose entries of one row are neighbours in memory.
    """
    n = matrix.shape[0]
    whole = n - n % 4
    different = 0
    for top in range(0, whole, 4):
        for j in range(top):
            for k in range(4):
                different += matrix[top + k, j] != matrix[j, top + k]
        if different > 0:
            break
    for i in range(n):  # what is left: the blocks on the diagonal, and the last rows
        for j in range(i - i % 4 if i < whole else 0, i):
            different += matrix[i, j] != matrix[j, i]
    return 1.0 if different == 0 else is_symmetric_to_rounding(matrix)


def is_symmetric_to_rounding(matrix):
    """1.0 where all |a_ij - a_ji| <= 4 n eps sqrt(a_ii a_jj), the rounding of a product.

    There the adjoint of reading one triangle and that of reading both differ by rounding only.
    """
    n = matrix.shape[0]
    scales = np.empty(n, matrix.dtype)
    for i in range(n):
        scales[i] = np.sqrt(4 * n * np.finfo(matrix.dtype).eps * abs(matrix[i, i]))
    for top in range(0, n, _TILE):
        for left in range(0, top + 1, _TILE):
            for i in range(top, min(top + _TILE, n)):
                for j in range(left, min(left + _TILE, i)):
                    if not abs(matrix[i, j] - matrix[j, i]) <= scales[i] * scales[j]:
                        return 0.0
    return 1.0


def fold_to_lower(bar):
    """Overwrite the cotangent of a symmetric matrix by that of its lower triangle."""
    for i in range(bar.shape[0]):
        for j in range(i):
            bar[i, j] += bar[j, i]
            bar[j, i] = 0


def copy_rows(rows):
    """A C-contiguous copy, whatever the memory layout of the argument."""
    copied = np.empty(rows.shape, rows.dtype)
    write_rows(rows, copied)
    return copied


def write_rows(rows, copied):
    """Copy rows, unless to the same memory."""
    if copied.ctypes.data == rows.ctypes.data:
        return
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            copied[i, j] = rows[i, j]


def weighted_rows(rows, weights):
    """The rows (m, ...), zero where they have no weight: an overflow in one is not the others'."""
    if weights.all():
        return rows
    copied = rows.copy()
    for i in range(weights.size):
        if weights[i] == 0:
            copied[i] = 0
    return copied


def rows_dot(a, b):
    """Dot product of each pair of rows of C-contiguous arrays: (m, n), (m, n) -> (m,)."""
    products = np.zeros(a.shape[0], a.dtype)
    if a.shape[1] <= 16:  # less than the call of a BLAS routine
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                products[i] += a[i, j] * b[i, j]
        return products
    for i in range(a.shape[0]):
        products[i] = np.dot(a[i], b[i])
    return products


@apart("float64 1")
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
    scaled = np.empty(left.shape, left.dtype)
    for i in range(m):
        for j in range(n):
            scaled[i, j] = weights[i] * left[i, j]
    return np.dot(scaled.T, np.ascontiguousarray(right))


def weighted_gram(rows, weights):
    """Lower triangle of the sum of ``weights[i] * outer(rows[i], rows[i])``: (m, n) -> (n, n).

    Short rows are taken a strip at a time, as columns side by side, so that nothing of their size
    is new: fresh pages cost more than the sum.
    """
    m, n = rows.shape
    width = min(m, STRIP)
    sums, product = np.zeros((n, n, width), rows.dtype), np.zeros((n, n), rows.dtype)
    columns, scaled = np.zeros((n, width), rows.dtype), np.zeros(width, rows.dtype)
    for start in range(0, m, STRIP):
        count = min(m - start, STRIP)
        for j in range(n):
            for s in range(count):
                columns[j, s] = rows[start + s, j]
        for j in range(n):
            for s in range(count):
                scaled[s] = weights[start + s] * columns[j, s]
            for k in range(j + 1):
                total, column = sums[j, k], columns[k]
                for s in range(count):
                    total[s] += scaled[s] * column[s]
    for j in range(n):
        for k in range(j + 1):
            for s in range(width):
                product[j, k] += sums[j, k, s]
    return product


def mirror_and_add(lower, scale, rows, weights, gram):
    """Overwrite ``lower`` (n, n) by the full ``scale * S + sum_i weights_i rows_i rows_i'``.

    S is the symmetric matrix whose lower triangle ``lower`` holds. One row is folded into
    the single pass over the matrix; of several the sum is the ``gram`` (n, n).
    """
    n = lower.shape[0]
    single = rows.shape[0] == 1
    row = copy_rows(rows[:1]).ravel()
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


def adjoint_from_factor(factor, rows, weights, scale, symmetric):
    """Overwrite ``factor`` (n, n) by ``scale * (L L')^-1 + sum_i weights_i rows_i rows_i'``.

    Where ``symmetric`` is zero, by the cotangent of the lower triangle of the matrix.
    """
    single = rows.shape[0] == 1
    gram = np.empty((0, 0), factor.dtype) if single else weighted_product(rows, rows, weights)
    return _adjoint(factor, rows, weights, scale, symmetric, gram)


def adjoint_of_short_rows(factor, rows, weights, scale, symmetric):
    """The same of many rows of few entries."""
    return _adjoint(factor, rows, weights, scale, symmetric, weighted_gram(rows, weights))


def _adjoint(factor, rows, weights, scale, symmetric, gram):
    if scale == 0:
        factor[:] = 0
    else:
        inverse_from_cholesky(factor)
    mirror_and_add(factor, scale, rows, weights, gram)
    if symmetric == 0:
        fold_to_lower(factor)
    return factor
