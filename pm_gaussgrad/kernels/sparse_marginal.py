"""Kernels of some nodes of a Markov field, the others taken out by the factor of their precision.

See :mod:`pm_gaussgrad.cov.graphs.sparse_marginal`.
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.embedding import (
    TOGETHER,
    count_twice,
    pointers,
    saved_factor,
    unit_rows,
)
from pm_gaussgrad.kernels.sparse.factorise import factorise, log_determinant
from pm_gaussgrad.kernels.sparse.products import multiply, outer_products
from pm_gaussgrad.kernels.sparse.selected_inverse import selected_inverse
from pm_gaussgrad.kernels.sparse.solve import solve, solve_root
from pm_gaussgrad.kernels.symmetric import rows_dot


def forward(
    residual,
    values,
    column_starts,
    row_indices,
    analysis,
    height,
    observed,
    missing,
    inner,
    inner_analysis,
    inner_height,
):
    """Two factors, and the residual filled with conditional means."""
    values, indptr = np.asarray(values, np.float64), pointers(column_starts, row_indices)
    inner_factor = saved_factor(values[inner], inner_analysis, inner_height)
    filled = np.zeros((residual.shape[0], column_starts.size))
    for r in range(residual.shape[0]):
        for i in range(observed.size):
            filled[r, observed[i]] = residual[r, i]
    given = multiply(values, indptr, row_indices, filled)
    means = solve(inner_factor.ravel(), inner_analysis, _columns(given, missing))
    for r in range(residual.shape[0]):
        for i in range(missing.size):
            filled[r, missing[i]] = -means[r, i]
    product, dtype = multiply(values, indptr, row_indices, filled), residual.dtype
    quad, alpha = rows_dot(filled, product), _columns(product, observed)
    factor = saved_factor(values, analysis, height)
    logdet = log_determinant(inner_factor.ravel(), inner_analysis)
    logdet -= log_determinant(factor.ravel(), analysis)
    return (
        np.asarray(quad, dtype),
        logdet,
        np.asarray(alpha, dtype),
        np.asarray(filled, dtype),
        np.asarray(factor, dtype),
        np.asarray(inner_factor, dtype),
    )


def pullback(
    column_starts,
    row_indices,
    analysis,
    inner,
    inner_analysis,
    filled,
    factor,
    inner_factor,
    quad_bar,
    logdet_bar,
):
    """The filled residual is held fixed."""
    bar = outer_products(filled, quad_bar, pointers(column_starts, row_indices), row_indices)
    if logdet_bar != 0:
        whole = np.asarray(factor, np.float64).ravel()
        bar -= logdet_bar * selected_inverse(whole, analysis)
        flat = np.asarray(inner_factor, np.float64).ravel()
        of_missing = selected_inverse(flat, inner_analysis)
        for i in range(inner.size):
            bar[inner[i]] += logdet_bar * of_missing[i]
    return (np.asarray(count_twice(bar, column_starts), quad_bar.dtype),)


def _columns(rows, positions):
    taken = np.empty((rows.shape[0], positions.size))
    for r in range(rows.shape[0]):
        for i in range(positions.size):
            taken[r, i] = rows[r, positions[i]]
    return taken


def precisions(rows, values, column_starts, row_indices, observed, missing, inner, inner_analysis):
    """Q_ii - |L_mm^-1 Q_mi|^2 of each observed i, whatever the rows are."""
    values = np.asarray(values, np.float64)
    first, neighbours, entries = _missing_neighbours(
        values, column_starts, row_indices, observed, missing
    )
    factor = factorise(values[inner], inner_analysis)
    diagonal = values[column_starts[observed]]
    beside = np.flatnonzero(first[1:] - first[:-1])
    for start in range(0, beside.size, TOGETHER):
        some = beside[start : start + TOGETHER]
        cross = np.zeros((some.size, missing.size))
        for r in range(some.size):
            for at in range(first[some[r]], first[some[r] + 1]):
                cross[r, neighbours[at]] = entries[at]
        white = solve_root(factor, inner_analysis, cross)
        explained = rows_dot(white, white)
        for r in range(some.size):
            diagonal[some[r]] -= explained[r]
    precision = np.empty(rows.shape, rows.dtype)
    for r in range(rows.shape[0]):
        for i in range(observed.size):
            precision[r, i] = diagonal[i]
    return (precision,)


def _missing_neighbours(values, column_starts, row_indices, observed, missing):
    """The missing neighbours of each observed node, and the entries of Q between them.

    Returns
    -------
    first : array of int, shape (n_observed + 1)
        Where the lists of each begin.
    neighbours : array of int
        Their places among the missing.
    entries : array
    """
    place = np.empty(column_starts.size, np.int64)
    is_missing = np.zeros(column_starts.size, np.bool_)
    for i in range(observed.size):
        place[observed[i]] = i
    for i in range(missing.size):
        place[missing[i]], is_missing[missing[i]] = i, True
    at = np.zeros(observed.size + 1, np.int64)
    for j, i, _ in _pairs(column_starts, row_indices, is_missing):
        at[place[j if is_missing[i] else i] + 1] += 1
    first = np.cumsum(at)
    at[:] = first
    neighbours, entries = np.empty(first[-1], np.int64), np.empty(first[-1])
    for j, i, entry in _pairs(column_starts, row_indices, is_missing):
        node, other = (place[j], place[i]) if is_missing[i] else (place[i], place[j])
        neighbours[at[node]], entries[at[node]] = other, values[entry]
        at[node] += 1
    return first, neighbours, entries


def _pairs(column_starts, row_indices, is_missing):
    """Neighbours of which one is missing, and where their entry is."""
    stop = row_indices.size
    for j in range(column_starts.size - 1, -1, -1):
        for entry in range(column_starts[j] + 1, stop):
            if is_missing[j] != is_missing[row_indices[entry]]:
                yield j, row_indices[entry], entry
        stop = column_starts[j]


def information(
    tangents,
    values,
    column_starts,
    row_indices,
    analysis,
    observed,
    missing,
    inner,
    inner_analysis,
):
    """1/2 tr(K dQ_a K dQ_b) of p directions, K = Q^-1 less the inverse of Q_mm: (p, q) -> (p, p).

    A few columns k = K e at a time: sum over them of (dQ_a e)' K dQ_b k.
    """
    p, n = tangents.shape[0], column_starts.size
    indptr, moves = pointers(column_starts, row_indices), np.asarray(tangents, np.float64)
    values = np.asarray(values, np.float64)
    factor, inner_factor = factorise(values, analysis), factorise(values[inner], inner_analysis)
    total = np.zeros((p, p))
    for start in range(0, n, TOGETHER):
        count = min(TOGETHER, n - start)
        unit = unit_rows(start, start + count, n)
        columns = _explained(factor, analysis, inner_factor, inner_analysis, missing, unit)
        moved = np.empty((p * count, n))
        for b in range(p):
            moved[b * count : (b + 1) * count] = multiply(moves[b], indptr, row_indices, columns)
        solved = _explained(factor, analysis, inner_factor, inner_analysis, missing, moved)
        for a in range(p):
            of_unit = multiply(moves[a], indptr, row_indices, unit)
            for b in range(p):
                part = solved[b * count : (b + 1) * count]
                total[a, b] += rows_dot(of_unit, part).sum() / 2
    return (np.asarray((total + total.T) / 2, tangents.dtype),)


def _explained(factor, analysis, inner_factor, inner_analysis, missing, rows):
    """K r of each row r."""
    explained = solve(factor, analysis, rows)
    inside = solve(inner_factor, inner_analysis, _columns(rows, missing))
    for r in range(rows.shape[0]):
        for i in range(missing.size):
            explained[r, missing[i]] -= inside[r, i]
    return explained
