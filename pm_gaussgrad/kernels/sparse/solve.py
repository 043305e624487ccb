"""Solutions, white noise and products with the factor of a sparse matrix, of rows (m, n).

With Q = P'L L'P: if z has the covariance I, then x = P'L'^-1 z has Q^-1, and z = L'P x.
"""

from pm_gaussgrad.kernels.apart import apart
from pm_gaussgrad.kernels.sparse.layout import ORDER, section
from pm_gaussgrad.kernels.sparse.substitution import (
    in_order,
    multiply_by_factor,
    multiply_by_transposed,
    out_of_order,
    substitute_backward,
    substitute_forward,
)


@apart("float64 1", "int64 1", "float64 2")
def solve(factor, analysis, rows):
    """Q^-1 r of each row r: (m, n) -> (m, n); NaN where the factor is."""
    order = section(analysis, ORDER)
    ordered = in_order(rows, order)
    substitute_forward(factor, analysis, ordered)
    substitute_backward(factor, analysis, ordered)
    return out_of_order(ordered, order)


def solve_root(factor, analysis, rows):
    """L^-1 P r of each row r, whose squared length is r'Q^-1 r: (m, n) -> (m, n)."""
    ordered = in_order(rows, section(analysis, ORDER))
    substitute_forward(factor, analysis, ordered)
    return ordered


def solve_root_transposed(factor, analysis, rows):
    """P'L'^-1 z of each row z, with the covariance Q^-1 if z is white: (m, n) -> (m, n)."""
    ordered = rows.copy()
    substitute_backward(factor, analysis, ordered)
    return out_of_order(ordered, section(analysis, ORDER))


def multiply_root(factor, analysis, rows):
    """P'L z of each row z, with the covariance Q if z is white: (m, n) -> (m, n)."""
    ordered = rows.copy()
    multiply_by_factor(factor, analysis, ordered)
    return out_of_order(ordered, section(analysis, ORDER))


def multiply_root_transposed(factor, analysis, rows):
    """L'P x of each row x, white if x has the covariance Q^-1: (m, n) -> (m, n)."""
    ordered = in_order(rows, section(analysis, ORDER))
    multiply_by_transposed(factor, analysis, ordered)
    return ordered
