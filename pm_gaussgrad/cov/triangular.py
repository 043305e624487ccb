"""Symbolic algebra with lower triangular factors, for draws, whitening and diagonals."""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.products import rows_times


def lower_times(factor, z):
    """L z for each row of z: (..., n, n), (..., n) -> (..., n)."""
    z = pt.as_tensor_variable(z)
    if factor.type.ndim == 2:
        return rows_times(z, factor.T)
    return (factor @ z[..., None])[..., 0]


def lower_solve(factor, rows):
    """L^-1 r for each row r: (..., n, n), (..., n) -> (..., n)."""
    rows = pt.as_tensor_variable(rows)
    if factor.type.ndim == 2 and rows.type.ndim == 2:
        return pt.linalg.solve_triangular(factor, rows.T, lower=True, b_ndim=2).T
    return pt.linalg.solve_triangular(factor, rows, lower=True, b_ndim=1)


def lower_transposed_solve(factor, rows):
    """L'^-1 r for each row r: (..., n, n), (..., n) -> (..., n)."""
    if factor.type.ndim == 2 and rows.type.ndim == 2:
        return pt.linalg.solve_triangular(factor.T, rows.T, lower=False, b_ndim=2).T
    return pt.linalg.solve_triangular(factor.mT, rows, lower=False, b_ndim=1)


def lower_innovations(factor, residual):
    """Standardised innovations and their log scales, by the factor of the covariance."""
    diagonal = pt.diagonal(factor, axis1=-2, axis2=-1)
    white = lower_solve(factor, residual)
    log_scale = pt.log(pt.abs(diagonal))
    return white * pt.sign(diagonal), log_scale + pt.zeros_like(white)


def squared_row_norms(factor):
    """diag(L L'): (..., n, n) -> (..., n)."""
    return (factor**2).sum(axis=-1)


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
