"""LAPACK and BLAS calls for kernels, by the names of what they compute.

Every routine works in place on C-contiguous arrays and reads or writes the lower
triangle only; the strict upper triangle is neither read nor meaningful afterwards.
(A C-ordered lower triangle is LAPACK's Fortran-ordered upper triangle, so nothing is
ever transposed in memory.)

Compiled kernels call the routines straight through the pointers that SciPy exposes, as defined
in :mod:`pm_gaussgrad.kernels.lapack_numba`. The functions here are what these compute, for
kernels that are interpreted.
"""

import numpy as np
from scipy.linalg import get_blas_funcs


def cholesky(a):
    """Overwrite symmetric ``a`` (n, n) by its lower Cholesky factor (xPOTRF).

    Returns
    -------
    bool
        False where a pivot is not positive; ``a`` is then meaningless.
    """
    try:
        factor = np.linalg.cholesky(_symmetric(a))
    except np.linalg.LinAlgError:
        return False
    if not np.isfinite(factor).all():
        return False
    _set_lower(a, factor)
    return True


def inverse_from_cholesky(factor):
    """Overwrite the lower Cholesky factor (n, n) by the lower triangle of (L L')^-1 (xPOTRI)."""
    inverse = _solved(factor, np.eye(len(factor)))
    _set_lower(factor, inverse.T @ inverse)


def inverse_lower(factor):
    """Overwrite a lower triangular matrix (n, n) by its inverse (xTRTRI)."""
    _set_lower(factor, _solved(factor, np.eye(len(factor))))


def solve_lower(factor, rows):
    """Overwrite each row r of ``rows`` (m, n) by L^-1 r (xTRSM)."""
    if rows.size:
        rows[:] = _solved(factor, rows.T).T


def solve_lower_transposed(factor, rows):
    """Overwrite each row r of ``rows`` (m, n) by L'^-1 r (xTRSM)."""
    if rows.size:
        rows[:] = _solved(factor, rows.T, trans=1).T


def symmetric_product(matrix, rows, out):
    """Write ``rows @ S`` (m, n) to ``out``, S the symmetric matrix of a lower triangle (xSYMM)."""
    out[:] = rows @ _symmetric(matrix)


def gram(rows, out):
    """Write the lower triangle of ``rows' rows`` (k, k) to ``out``, rows (n, k) (xSYRK)."""
    _set_lower(out, rows.T @ rows)


def eigen(a, values):
    """Overwrite symmetric ``a`` (n, n) by its eigenvectors, one a row (xSYEVD).

    The eigenvalues, ascending, are written to ``values`` (n,).

    Returns
    -------
    bool
        False where ``a`` is not finite or the iteration fails; both are then meaningless.
    """
    if not np.isfinite(np.tril(a)).all():
        return False
    found, vectors = np.linalg.eigh(a, UPLO="L")
    values[:], a[:] = found, vectors.T
    return True


def matrix_product(left, right, out):
    """Write ``left @ right`` to C-contiguous ``out`` (xGEMM; xGEMV for a single row).

    Each factor is C-contiguous or the transpose ``x.T`` of such an array.
    """
    out[:] = left @ right


def product_of_plain_or_transposed(left, right, left_transposed, right_transposed, out):
    """Write to ``out`` the product of two matrices, of the transpose of each where that is told.

    All arrays are C-contiguous (xGEMM; xGEMV where one factor is a vector).
    """
    out[:] = (left.T if left_transposed else left) @ (right.T if right_transposed else right)


def _set_lower(a, lower):
    a[np.tril_indices(len(a))] = lower[np.tril_indices(len(a))]


def _symmetric(lower):
    return np.tril(lower) + np.tril(lower, -1).T


def _solved(factor, columns, trans=0):
    """Of a singular factor not finite, where SciPy's own function raises."""
    [solve] = get_blas_funcs(["trsm"], [factor, columns])
    return solve(1.0, factor, columns, lower=1, trans_a=trans)
