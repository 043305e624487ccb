"""Products of rows with matrices, and other arithmetic that structures share."""

import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pm_gaussgrad.ops import matrix_product, rows_last


def rows_times(rows, matrix):
    """r' A for each row r, of one matrix or one a batch: (..., n), (..., n, k) -> (..., k).

    Arrays or tensors.
    """
    if matrix.ndim == 2 and isinstance(matrix, Variable) and 0 in matrix.type.shape:
        # Zeros: PyTensor reshapes many rows to (-1, 0), which fails.
        nothing = pt.zeros(matrix.shape[1], dtype=matrix.dtype) + matrix.sum()
        return nothing + 0 * rows.sum(axis=-1, keepdims=True)
    if matrix.ndim == 2 and isinstance(matrix, Variable):
        rows, restore = rows_last(pt.as_tensor_variable(rows), 0)
        return restore(matrix_product(rows, matrix))
    if matrix.ndim == 2:
        return rows @ matrix
    return (rows[..., None, :] @ matrix)[..., 0, :]


def matmul(left, right):
    """A B, of tensors, two matrices or batches of them.

    By an Op of its own: numba takes PyTensor's longer than all of a structure's kernels.
    """
    if left.type.ndim == right.type.ndim == 2:
        return matrix_product(left, right)
    return left @ right


def unit_rows(positions, n, dtype):
    """Rows of the identity, (c,) -> (c, n)."""
    return pt.eq(positions[:, None], pt.arange(n)).astype(dtype)


def rows_of_diagonal(positions, variances, n):
    """Rows of a diagonal matrix, of variances (n,) or (): (c,) -> (c, n)."""
    return unit_rows(positions, n, variances.dtype) * variances


def standardised_by(alpha, precision):
    """Deviations alpha / c from conditional means in units of 1 / sqrt(c), and log(1 / c) / 2."""
    deviations = alpha / pt.sqrt(precision)
    return deviations, -pt.log(precision) / 2 + pt.zeros_like(deviations)
