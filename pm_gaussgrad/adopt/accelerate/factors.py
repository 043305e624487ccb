"""Products of a matrix with its transpose, and inverses."""

from pytensor.tensor.linalg.inverse import MatrixInverse

from pm_gaussgrad.adopt.accelerate.graphs import is_lower, op_of, own_factor
from pm_gaussgrad.adopt.accelerate.matrices import proves
from pm_gaussgrad.cov import Cholesky, LowRank, Precision


@proves
def of_factor(matrix):
    """L L' of a lower triangular L."""
    factor = own_factor(matrix)
    return Cholesky(factor) if factor is not None and is_lower(factor) else None


def of_few_columns(matrix):
    """U U' with so few columns that it pays in sums; None of any other product."""
    factor = own_factor(matrix)
    if factor is None or is_lower(factor) or factor.type.ndim != 2:
        return None
    rows, columns = factor.type.shape
    return LowRank(factor) if None not in (rows, columns) and 2 * columns < rows else None


@proves
def of_inverse(matrix):
    """Q^-1."""
    is_inverse = isinstance(op_of(matrix), MatrixInverse)
    return Precision(matrix.owner.inputs[0]) if is_inverse else None
