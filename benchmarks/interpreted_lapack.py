"""The routines of ``pm_gaussgrad.kernels.lapack`` in NumPy and SciPy, for kernels without numba.

A mutation pass puts this file in the place of that one in its copy of the package: a changed
kernel then needs no compilation. Only the lower triangles are read, and what the routines leave
undefined is NaN.
"""

import numpy as np
from scipy.linalg import solve_triangular


def _set_lower(a, lower):
    a[np.tril_indices(len(a))] = lower[np.tril_indices(len(a))]


def _symmetric(lower):
    return np.tril(lower) + np.tril(lower, -1).T


def cholesky(a):
    try:
        factor = np.linalg.cholesky(_symmetric(a))
    except np.linalg.LinAlgError:
        return False
    if not np.isfinite(factor).all():
        return False
    _set_lower(a, factor)
    return True


def inverse_from_cholesky(factor):
    inverse = solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
    _set_lower(factor, inverse.T @ inverse)


def inverse_lower(factor):
    eye = np.eye(len(factor))
    _set_lower(factor, solve_triangular(factor, eye, lower=True, check_finite=False))


def solve_lower(factor, rows):
    if rows.size:
        rows[:] = solve_triangular(factor, rows.T, lower=True, check_finite=False).T


def solve_lower_transposed(factor, rows):
    if rows.size:
        rows[:] = solve_triangular(factor, rows.T, lower=True, trans=1, check_finite=False).T


def symmetric_product(matrix, rows, out):
    out[:] = rows @ _symmetric(matrix)


def gram(rows, out):
    _set_lower(out, rows.T @ rows)


def eigen(a, values):
    if not np.isfinite(np.tril(a)).all():
        return False
    found, vectors = np.linalg.eigh(a, UPLO="L")
    values[:], a[:] = found, vectors.T
    return True


def matrix_product(left, right, out):
    out[:] = left @ right
