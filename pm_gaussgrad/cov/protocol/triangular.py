"""Symbolic algebra with lower triangular factors, for draws, whitening and diagonals."""

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.protocol.products import rows_times
from pm_gaussgrad.kernels.symmetric import is_symmetric
from pm_gaussgrad.ops import rows_last


def lower_times(factor, z):
    """L z for each row of z: (..., n, n), (..., n) -> (..., n)."""
    z = pt.as_tensor_variable(z)
    if factor.type.ndim == 2:
        return rows_times(z, factor.T)
    return (factor @ z[..., None])[..., 0]


def lower_solve(factor, rows):
    """L^-1 r for each row r: (..., n, n), (..., n) -> (..., n)."""
    return _solved(factor, rows, lower=True)


def lower_transposed_solve(factor, rows):
    """L'^-1 r for each row r: (..., n, n), (..., n) -> (..., n)."""
    return _solved(factor.mT, rows, lower=False)


def _solved(factor, rows, lower):
    """All rows of a factor together: loops over none of them have no Python form."""
    rows = pt.as_tensor_variable(rows)
    if rows.type.ndim < factor.type.ndim:
        return pt.linalg.solve_triangular(factor, rows, lower=lower, b_ndim=1)
    rows, restore = rows_last(rows, factor.type.ndim - 2)
    return restore(pt.linalg.solve_triangular(factor, rows.mT, lower=lower, b_ndim=2).mT)


def lower_innovations(factor, residual):
    """Standardised innovations and their log scales, by the factor of the covariance."""
    diagonal = pt.diagonal(factor, axis1=-2, axis2=-1)
    white = lower_solve(factor, residual)
    log_scale = pt.log(pt.abs(diagonal))
    return white * pt.sign(diagonal), log_scale + pt.zeros_like(white)


def squared_row_norms(factor):
    """diag(L L'): (..., n, n) -> (..., n)."""
    return (factor**2).sum(axis=-1)


def symmetric_from_lower(matrix):
    """The symmetric matrix of the lower triangle, (..., n, n); a symmetric matrix as it is.

    What the kernels see: where the matrix is symmetric the cotangent of the matrix is that of all
    its entries, and where it is not, that of the lower triangle.
    """
    return _where_symmetric(matrix, matrix)


def symmetric_direction(matrix, tangent):
    """What a structure sees of directions (..., n, n) in which its matrix (n, n) moves."""
    return _where_symmetric(matrix, tangent, (tangent + tangent.mT) / 2)


def _where_symmetric(matrix, values, otherwise=None):
    """Values below the diagonal mirrored, or ``otherwise`` where the matrix is symmetric."""
    n = matrix.type.shape[-1]
    if n == 1:
        return values
    if isinstance(matrix, Constant) and values is matrix:
        return pt.constant(_symmetric_constant(matrix.data))
    otherwise = values if otherwise is None else otherwise
    index = pt.arange(matrix.shape[-1] if n is None else n)
    lower = pt.ge(index[:, None], index)
    mirrored = pt.switch(lower, values, values.mT)
    return pt.switch(_is_symmetric(matrix), otherwise, mirrored)


def _is_symmetric(matrix):
    """As the kernel of this name: (..., n, n) -> (..., 1, 1)."""
    matrix = disconnected_grad(matrix)
    diagonal = pt.diagonal(matrix, axis1=-2, axis2=-1)
    eps = np.finfo(matrix.dtype).eps
    scales = pt.sqrt(4 * matrix.shape[-1].astype(matrix.dtype) * eps * pt.abs(diagonal))
    close = pt.le(pt.abs(matrix - matrix.mT), scales[..., :, None] * scales[..., None, :])
    return (close | pt.eq(matrix, matrix.mT)).all(axis=(-2, -1), keepdims=True)


def _symmetric_constant(matrix):
    mirrored = np.tril(matrix) + np.swapaxes(np.tril(matrix, -1), -1, -2)
    symmetric = np.empty(matrix.shape[:-2])
    for index in np.ndindex(symmetric.shape):
        symmetric[index] = is_symmetric(matrix[index])
    return np.where(symmetric[..., None, None] == 1, matrix, mirrored)
