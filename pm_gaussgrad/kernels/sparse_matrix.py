"""Kernels of a sparse matrix Q that is a covariance, and of one that is a precision.

The roots are S = P'L P and its inverse transposed, with the entries of white noise in the order of
the nodes; see :mod:`pm_gaussgrad.cov.graphs.sparse_matrix`.
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.embedding import (
    TOGETHER,
    count_twice,
    pointers,
    saved_factor,
    unit_rows,
)
from pm_gaussgrad.kernels.sparse.factorise import factorise, log_determinant, read_diagonal
from pm_gaussgrad.kernels.sparse.layout import ORDER, section
from pm_gaussgrad.kernels.sparse.products import multiply, outer_products
from pm_gaussgrad.kernels.sparse.selected_inverse import selected_inverse
from pm_gaussgrad.kernels.sparse.substitution import (
    in_order,
    multiply_by_factor,
    multiply_by_transposed,
    out_of_order,
    substitute_backward,
    substitute_forward,
)
from pm_gaussgrad.kernels.symmetric import rows_dot


def precision_forward(residual, values, column_starts, row_indices, analysis, height):
    """The covariance is Q^-1."""
    values, rows = np.asarray(values, np.float64), np.asarray(residual, np.float64)
    factor = saved_factor(values, analysis, height)
    alpha = multiply(values, pointers(column_starts, row_indices), row_indices, rows)
    quad = rows_dot(rows, alpha)
    logdet = -log_determinant(factor.ravel(), analysis)
    dtype = residual.dtype
    return np.asarray(quad, dtype), logdet, np.asarray(alpha, dtype), np.asarray(factor, dtype)


def precision_pullback(
    residual, column_starts, row_indices, analysis, factor, quad_bar, logdet_bar
):
    """Entries of the inverse are for the log determinant alone."""
    bar = outer_products(residual, quad_bar, pointers(column_starts, row_indices), row_indices)
    if logdet_bar != 0:
        factor = np.asarray(factor, np.float64).ravel()
        bar -= logdet_bar * selected_inverse(factor, analysis)
    return (np.asarray(count_twice(bar, column_starts), quad_bar.dtype),)


def covariance_forward(residual, values, column_starts, analysis, height):
    """The covariance is Q."""
    factor = saved_factor(np.asarray(values, np.float64), analysis, height)
    flat, order, dtype = factor.ravel(), section(analysis, ORDER), residual.dtype
    ordered = in_order(residual, order)
    substitute_forward(flat, analysis, ordered)
    quad = rows_dot(ordered, ordered)
    substitute_backward(flat, analysis, ordered)
    alpha, logdet = out_of_order(ordered, order), log_determinant(flat, analysis)
    return np.asarray(quad, dtype), logdet, np.asarray(alpha, dtype), np.asarray(factor, dtype)


def covariance_pullback(column_starts, row_indices, analysis, alpha, factor, quad_bar, logdet_bar):
    """As that of the precision, with the signs changed."""
    bar = outer_products(alpha, -quad_bar, pointers(column_starts, row_indices), row_indices)
    if logdet_bar != 0:
        factor = np.asarray(factor, np.float64).ravel()
        bar += logdet_bar * selected_inverse(factor, analysis)
    return (np.asarray(count_twice(bar, column_starts), quad_bar.dtype),)


def root(rows, values, analysis):
    """S z of each row z."""
    factor, order = _factor_and_order(values, analysis)
    ordered = in_order(rows, order)
    multiply_by_factor(factor, analysis, ordered)
    return (np.asarray(out_of_order(ordered, order), rows.dtype),)


def root_transposed(rows, values, analysis):
    """S'r of each row r."""
    factor, order = _factor_and_order(values, analysis)
    ordered = in_order(rows, order)
    multiply_by_transposed(factor, analysis, ordered)
    return (np.asarray(out_of_order(ordered, order), rows.dtype),)


def inverse_root(rows, values, analysis):
    """S^-1 r of each row r."""
    factor, order = _factor_and_order(values, analysis)
    ordered = in_order(rows, order)
    substitute_forward(factor, analysis, ordered)
    return (np.asarray(out_of_order(ordered, order), rows.dtype),)


def inverse_root_transposed(rows, values, analysis):
    """S'^-1 z of each row z."""
    factor, order = _factor_and_order(values, analysis)
    ordered = in_order(rows, order)
    substitute_backward(factor, analysis, ordered)
    return (np.asarray(out_of_order(ordered, order), rows.dtype),)


def _factor_and_order(values, analysis):
    return factorise(np.asarray(values, np.float64), analysis), section(analysis, ORDER)


def diagonal_of_inverse(rows, values, column_starts, analysis):
    """The diagonal of Q^-1, whatever the rows are."""
    factor = factorise(np.asarray(values, np.float64), analysis)
    entries = selected_inverse(factor, analysis)
    diagonal = np.empty(rows.shape, rows.dtype)
    for r in range(rows.shape[0]):
        for j in range(column_starts.size):
            diagonal[r, j] = entries[column_starts[j]]
    return (diagonal,)


def log_roots(rows, values, analysis):
    """The logarithm of the diagonal of S, whatever the rows are."""
    factor, order = _factor_and_order(values, analysis)
    diagonal = np.empty((1, order.size))
    read_diagonal(factor, analysis, diagonal[0])
    logarithms = np.empty(rows.shape, rows.dtype)
    for r in range(rows.shape[0]):
        for place in range(order.size):
            logarithms[r, order[place]] = np.log(diagonal[0, place])
    return (logarithms,)


def information(tangents, values, column_starts, row_indices, analysis):
    """1/2 tr(Q^-1 dQ_a Q^-1 dQ_b) of p directions on the pattern, (p, q) -> (p, p).

    With W_a = L^-1 P dQ_a P'L'^-1 it is 1/2 sum of the products of their entries, a few columns of
    all W_a at a time.
    """
    p, n = tangents.shape[0], column_starts.size
    indptr = pointers(column_starts, row_indices)
    factor, order = _factor_and_order(values, analysis)
    total = np.zeros((p, p))
    for start in range(0, n, TOGETHER):
        count = min(TOGETHER, n - start)
        unit = unit_rows(start, start + count, n)
        substitute_backward(factor, analysis, unit)
        unit = out_of_order(unit, order)
        white = np.empty((p * count, n))
        for a in range(p):
            moved = multiply(np.asarray(tangents[a], np.float64), indptr, row_indices, unit)
            white[a * count : (a + 1) * count] = in_order(moved, order)
        substitute_forward(factor, analysis, white)
        flat = white.reshape((p, count * n))
        for a in range(p):
            for b in range(a + 1):
                total[a, b] += np.dot(flat[a], flat[b]) / 2
    for a in range(p):
        for b in range(a):
            total[b, a] = total[a, b]
    return (np.asarray(total, tangents.dtype),)


def known_forward(residual, values, column_starts, row_indices, analysis, height, log_precision):
    """As of a precision; without a factor, where its log determinant is given."""
    if log_precision.size == 0:
        return precision_forward(residual, values, column_starts, row_indices, analysis, height)
    rows = np.asarray(residual, np.float64)
    entries, indptr = np.asarray(values, np.float64), pointers(column_starts, row_indices)
    alpha, dtype = multiply(entries, indptr, row_indices, rows), residual.dtype
    # Without meaning: that of a factor.
    factor = np.zeros((column_starts.size, height.size), dtype)
    quad = np.asarray(rows_dot(rows, alpha), dtype)
    return quad, -np.float64(log_precision[0]), np.asarray(alpha, dtype), factor


def known_pullback(
    residual,
    column_starts,
    row_indices,
    analysis,
    log_precision,
    factor,
    quad_bar,
    logdet_bar,
):
    """Cotangents of the values, and of the log determinant where it is given."""
    known = np.full(log_precision.size, -logdet_bar, quad_bar.dtype)
    if log_precision.size == 0:
        (bar,) = precision_pullback(
            residual, column_starts, row_indices, analysis, factor, quad_bar, logdet_bar
        )
        return bar, known
    bar = outer_products(residual, quad_bar, pointers(column_starts, row_indices), row_indices)
    return np.asarray(count_twice(bar, column_starts), quad_bar.dtype), known
