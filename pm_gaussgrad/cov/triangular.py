"""Symbolic algebra with lower triangular factors, for draws, whitening and diagonals."""

import numpy as np
import pytensor.tensor as pt


def lower_times(factor, z):
    """L z for each row of z: (..., n, n), (..., n) -> (..., n)."""
    z = pt.as_tensor_variable(z)
    if factor.type.ndim == 2:
        return z @ factor.T
    return (factor @ z[..., None])[..., 0]


def lower_solve(factor, rows):
    """L^-1 r for each row r: (..., n, n), (..., n) -> (..., n)."""
    rows = pt.as_tensor_variable(rows)
    if factor.type.ndim == 2 and rows.type.ndim == 2:
        return pt.linalg.solve_triangular(factor, rows.T, lower=True, b_ndim=2).T
    return pt.linalg.solve_triangular(factor, rows, lower=True, b_ndim=1)


def squared_row_norms(factor):
    """diag(L L'): (..., n, n) -> (..., n)."""
    return (factor**2).sum(axis=-1)


def inverse_diagonal(factor):
    """diag((L L')^-1), the squared column norms of L^-1: (..., n, n) -> (..., n)."""
    identity = pt.eye(factor.shape[-1], dtype=factor.dtype)
    inverse = pt.linalg.solve_triangular(factor, identity, lower=True, b_ndim=2)
    return (inverse**2).sum(axis=-2)


def constant_cholesky(matrix):
    """Lower Cholesky factors of constant matrices (..., n, n); NaN where there is none."""
    matrix = np.asarray(matrix)
    factor = np.full(matrix.shape, np.nan)
    for index in np.ndindex(matrix.shape[:-2]):
        try:
            factor[index] = np.linalg.cholesky(matrix[index])
        except np.linalg.LinAlgError:
            continue
    return factor
